// Package subprocess runs programs as child processes that do not outlive this one: the servers of
// the demo, and relays that are measured, tortured or killed for show.
package subprocess
