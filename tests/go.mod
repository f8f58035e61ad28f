module flatnet/tests

go 1.26.0
