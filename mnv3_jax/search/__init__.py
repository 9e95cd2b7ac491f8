"""Architecture search: networks inside a trained one, evaluated by masks of its channels, and NetAdapt."""
