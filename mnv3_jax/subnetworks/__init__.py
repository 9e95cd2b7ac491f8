"""Networks inside other ones, and spaces of networks: values, their masks, and their weights."""
