//go:build !failpoints

package relay

// failpoints says whether this build can be told to die or to misbehave; see failpoint.go.
const failpoints = false

// What failpoint.go defines does nothing here, and the compiler leaves it out.
const (
	pointRead      = ""
	pointDecoded   = ""
	pointEncoded   = ""
	pointEnqueued  = ""
	pointAppended  = ""
	pointAcked     = ""
	pointConfirmed = ""

	bugConfirmOnReceive   = ""
	bugConfirmCommitLSN   = ""
	bugConfirmKeepalive   = ""
	bugSkipFailedBatch    = ""
	bugPublishUncommitted = ""
)

func failpoint(string) {}

func bug(string) bool { return false }

func relationLost() bool { return false }

func uncommitted([]byte, LSN) [][]byte { return nil }
