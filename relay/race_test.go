//go:build race

package relay

// raceDetector says that the test runs under it, where a sync.Pool forgets one of four.
const raceDetector = true
