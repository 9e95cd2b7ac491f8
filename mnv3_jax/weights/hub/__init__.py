"""Published weights by name: what is published where, with which accuracy and license, and downloads into a cache."""
