// Package endurance holds tests that run Loupe as it is run: as processes, on a
// database, with a registry to ask and receivers to tell. They kill the processes
// at random moments, restart them one by one under load, and measure what they
// take; afterwards the books must balance.
//
// It refuses to look inside: what it knows of a server it has from its API, its
// database and the system. In `go test` the tests are short; flags make them
// long:
//
//	go test ./internal/endurance -run Crash -rounds 50
//	go test ./internal/endurance -run Rolling -rolling 60s
//	go test ./internal/endurance -run Load -load -v
package endurance
