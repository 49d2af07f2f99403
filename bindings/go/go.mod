module github.com/p2pmount/p2pmount/bindings/go

go 1.22

require go.uber.org/goleak v1.3.0
