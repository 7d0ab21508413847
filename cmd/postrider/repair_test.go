package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/ledger"
	"github.com/postrider/postrider/relay"
)

// runPostrider runs the command to its end and returns its exit code and what it printed.
func runPostrider(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs strings.Builder
	cmd := postriderCommand(t, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the code says it
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestRepair_ShowsItsPlanAndAsksBeforeItChangesAnything(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	r := w.relay()
	r.awaitLog(streaming)
	db := connect(t, w.url)
	insert := `INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', 'a', 'order.created', '{"seq":1}')`
	execSQL(t, db, insert)
	ledger.Open(t, w.url, w.brokers, w.topic).Await()
	r.terminate()
	execSQL(t, db, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()`)
	execSQL(t, db, insert)

	if _, stderr, code := runPostrider(t, "repair", "-c", w.config); code != exitUsage || !strings.Contains(stderr, "--yes") {
		t.Errorf("without a terminal: exit %d, %s", code, stderr)
	}
	stdout, stderr, code := runPostrider(t, "repair", "-c", w.config, "--dry-run")
	if code != 0 || !strings.Contains(stdout, "SLOT_MISSING") || !strings.Contains(stdout, "nothing was changed") {
		t.Errorf("dry run: exit %d, %s%s", code, stdout, stderr)
	}
	stdout, stderr, code = runPostrider(t, "repair", "-c", w.config, "--yes", "--json")
	var result relay.RepairResult
	if err := json.Unmarshal([]byte(stdout), &result); err != nil || code != 0 {
		t.Fatalf("exit %d, %v: %s%s", code, err, stdout, stderr)
	}
	if !result.Repaired || result.Reason != relay.SlotMissing || result.Missing != 1 || result.Published != 1 || result.Kept != 2 {
		t.Errorf("repair: %+v", result)
	}
	ledger.Open(t, w.url, w.brokers, w.topic).Await()
	w.relay().awaitLog(streaming)
}
