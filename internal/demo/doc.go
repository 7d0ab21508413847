// Package demo is `postrider demo`: the orders example with its four services, a relay, and the
// servers that they need, with a ledger of all events and a check of all orders below them.
//
// Services, registry and the stand-in for Kafka run in the process, Postgres and the relay are
// children of it. The children do not outlive the process, and its files are in one directory,
// which it removes or, when it is killed, the next demo does.
//
//	err := demo.Run(ctx, demo.Config{Orders: 100, Exit: true, Program: program, Out: os.Stdout, Err: os.Stderr})
//
// demo.go is the life of a demo, servers.go what it starts; own_postgres.go and own_kafka.go are
// about servers of the user's, place.go about its files, relay.go about the relay's process.
// orders.go places orders, consumer.go reads what arrives, ledger.go and watch.go keep count,
// faults.go breaks things on command; screen.go and keyboard.go are what the user sees and
// types.
package demo
