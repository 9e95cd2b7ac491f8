"""Import of published weights: one declarative, complete and strict name map per source."""
