"""What people are told of a prepared data set: a page, and the same as JSON."""
