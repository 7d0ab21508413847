//go:build failpoints

package relay

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// failpoints says whether this build can be told to die or to misbehave. Such builds exist
// to prove that the torture harness sees what it claims to see; they are never released.
//
//	POSTRIDER_FAILPOINT=appended:137   SIGKILL to itself at the 137th hit of that point
//	POSTRIDER_BUG=confirm-on-receive   a bug that products of this kind have had
const failpoints = true

// The crash points, in the order in which an event passes them.
const (
	pointRead      = "read"      // off the connection
	pointDecoded   = "decoded"   // out of pgoutput
	pointEncoded   = "encoded"   // made into a record
	pointEnqueued  = "enqueued"  // in its partition's queue
	pointAppended  = "appended"  // the broker has it, nobody here knows
	pointAcked     = "acked"     // known to be there, Postgres not told
	pointConfirmed = "confirmed" // Postgres told
)

var armed struct {
	point string
	left  atomic.Int64
	bug   string
}

func init() {
	armed.bug = os.Getenv("POSTRIDER_BUG")
	value := os.Getenv("POSTRIDER_FAILPOINT")
	if value == "" {
		return
	}
	point, count, _ := strings.Cut(value, ":")
	n, err := strconv.ParseInt(count, 10, 64)
	known := false
	for _, p := range []string{pointRead, pointDecoded, pointEncoded, pointEnqueued, pointAppended, pointAcked, pointConfirmed} {
		known = known || p == point
	}
	if err != nil || !known {
		fmt.Fprintf(os.Stderr, "POSTRIDER_FAILPOINT=%q: want <point>:<count>\n", value)
		os.Exit(2)
	}
	armed.point = point
	armed.left.Store(n)
}

// failpoint ends the process at once, as kill -9 does, when its turn has come.
func failpoint(point string) {
	if point == armed.point && armed.left.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Hour) // until it arrives
	}
}

// The bugs, and what they do:
const (
	// bugConfirmOnReceive confirms what was read, delivered or not.
	bugConfirmOnReceive = "confirm-on-receive"
	// bugConfirmCommitLSN confirms the commit record's beginning instead of its end: the last
	// transaction is sent again at every start. Consumers do not see it, for the relay skips what
	// stands at a topic's end; it shows as duplicates_skipped after a clean stop.
	bugConfirmCommitLSN = "confirm-commit-lsn"
	// bugConfirmKeepalive confirms the LSN of a keepalive while events are on their way.
	bugConfirmKeepalive = "confirm-keepalive"
	// bugSkipFailedBatch takes a batch that failed for one that was appended.
	bugSkipFailedBatch = "skip-failed-batch"
	// bugLoseRelation loses the description of the table after the first reconnect.
	bugLoseRelation = "lose-relation"
	// bugPublishUncommitted asks for large transactions before they commit and publishes them
	// (needs logical_decoding_work_mem = '64kB' and a larger transaction).
	bugPublishUncommitted = "publish-uncommitted"
)

// bug reports whether the process was started with that bug.
func bug(name string) bool { return name == armed.bug }

var relations atomic.Int64

// relationLost reports, under its bug, that a relation message is to be lost: every one but
// the process's first.
func relationLost() bool { return bug(bugLoseRelation) && relations.Add(1) > 1 }

var streamed struct {
	open bool
	lsn  LSN
}

// uncommitted turns the messages of protocol version 2 about a transaction in progress into
// a committed transaction's (PostgreSQL manual, "Logical Replication Message Formats").
func uncommitted(msg []byte, start LSN) [][]byte {
	now := uint64(time.Now().UnixMicro() - postgresEpoch*1e6)
	switch {
	case msg[0] == 'S':
		streamed.open, streamed.lsn = true, max(start, streamed.lsn+1)
		begin := binary.BigEndian.AppendUint64([]byte{byte(ChangeBegin)}, uint64(streamed.lsn))
		begin = binary.BigEndian.AppendUint64(begin, now)
		return [][]byte{append(begin, msg[1:5]...)}
	case msg[0] == 'E':
		streamed.open = false
		end := binary.BigEndian.AppendUint64([]byte{byte(ChangeCommit), 0}, uint64(streamed.lsn))
		end = binary.BigEndian.AppendUint64(end, uint64(streamed.lsn))
		return [][]byte{binary.BigEndian.AppendUint64(end, now)}
	case msg[0] == 'c' || msg[0] == 'A':
		return nil
	case streamed.open:
		return [][]byte{append([]byte{msg[0]}, msg[5:]...)}
	}
	return [][]byte{msg}
}
