module github.com/p2pmount/p2pmount/examples/go

go 1.22

require github.com/p2pmount/p2pmount/bindings/go v0.0.0

replace github.com/p2pmount/p2pmount/bindings/go => ../../bindings/go
