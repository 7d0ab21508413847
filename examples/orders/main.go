// Command orders is an example of services that postrider ties together.
package main

func main() {}
