package relay

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestMemory_ReadsWhatItWrote(t *testing.T) {
	t.Parallel()
	m := &memory{Repair: 2, Flushed: 0x1_2345_6789, Clean: true, System: "7", Timeline: 3, Slot: "postrider_orders", Table: 1, Publication: 2, Relation: 3,
		PublicationVersion: 4, RelationVersion: 5}
	got, err := parseMemory(m.String())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Error(diff)
	}
}

func TestMemory_OfANewerVersionIsAnErrorAndOtherTextIsNone(t *testing.T) {
	t.Parallel()
	if _, err := parseMemory(`{"v":2,"lsn":"0/1"}`); err == nil {
		t.Error("a memory of another format was passed over")
	}
	for _, text := range []string{"", "committed by a consumer", "{}", `{"offset":1}`} {
		if m, err := parseMemory(text); m != nil || err != nil {
			t.Errorf("%q gave %v, %v", text, m, err)
		}
	}
}

func TestMemory_ARepairCountsBeforeTheLSN(t *testing.T) {
	t.Parallel()
	old, repaired := &memory{Flushed: 100}, &memory{Repair: 1, Flushed: 10}
	if !repaired.after(old) || old.after(repaired) || !(&memory{Flushed: 101}).after(old) {
		t.Error("wrong order")
	}
}

func TestTimelineEnd_FindsWhereTheTimelinesPart(t *testing.T) {
	t.Parallel()
	history := []byte("1\t0/3000148\tno recovery target specified\n\n2\t0/50001A0\tno recovery target specified\n")
	for timeline, want := range map[int32]LSN{1: 0x3000148, 2: 0x50001A0} {
		if got, err := timelineEnd(history, timeline); err != nil || got != want {
			t.Errorf("timeline %d ended at %s, %v; want %s", timeline, got, err, want)
		}
	}
	if _, err := timelineEnd(history, 3); err == nil {
		t.Error("a timeline that is no ancestor has an end")
	}
}

func FuzzMemory(f *testing.F) {
	f.Add((&memory{Flushed: 1, System: "7"}).String())
	f.Add(`{"v":1,"lsn":"x"}`)
	f.Add(`{"v":1}`)
	f.Add(``)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMemory(text)
		if err != nil || m == nil {
			return
		}
		again, err := parseMemory(m.String())
		if err != nil || !cmp.Equal(m, again) {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
}

func FuzzTimelineEnd(f *testing.F) {
	f.Add([]byte("1\t0/3000148\tno recovery target specified\n"), int32(1))
	f.Fuzz(func(_ *testing.T, history []byte, timeline int32) { _, _ = timelineEnd(history, timeline) })
}

func TestGroup_KeepsItsPlaceOnSeveralTopicsAndOutlivesOne(t *testing.T) {
	t.Parallel()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	c := openTestCluster(t, kafka, 0)
	if m, err := c.recall(); m != nil || err != nil {
		t.Fatalf("a new group remembers %v, %v", m, err)
	}
	if err := c.keep("nothing"); !errors.Is(err, errNoPlace) {
		t.Errorf("kept without a topic: %v", err)
	}
	c.group.addPlace("a", false)
	c.group.addPlace("b", false)
	want := &memory{Flushed: 7, System: "1"}
	if err := c.keep(want.String()); err != nil {
		t.Fatal(err)
	}
	admin, err := kgo.NewClient(kgo.SeedBrokers(kafka.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := kadm.NewClient(admin).DeleteTopic(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	want.Flushed = 8
	for range unknownLimit + 1 {
		if err := c.keep(want.String()); err != nil {
			t.Fatal(err)
		}
	}
	if places := c.group.listPlaces(); len(places) != 1 || places[0].topic != "b" {
		t.Errorf("places %+v after a was deleted", places)
	}
	got, err := openTestCluster(t, kafka, 0).recall()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
