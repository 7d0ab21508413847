package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
)

func TestDoctor_WaitsForWhatPassesByItselfAndForNothingElse(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		answers []error
		want    error
	}{
		{[]error{fmt.Errorf("init producer id: %w", sarama.ErrOffsetsLoadInProgress), sarama.ErrConsumerCoordinatorNotAvailable, nil}, nil},
		{[]error{sarama.ErrLeaderNotAvailable, sarama.ErrTopicAuthorizationFailed}, sarama.ErrTopicAuthorizationFailed},
		{[]error{sarama.ErrUnknownTopicOrPartition}, sarama.ErrUnknownTopicOrPartition},
	} {
		asked := 0
		err := patiently(t.Context(), func() error { asked++; return tc.answers[asked-1] })
		if !errors.Is(err, tc.want) || asked != len(tc.answers) {
			t.Errorf("asked %d times of %d, %v", asked, len(tc.answers), err)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := patiently(ended, func() error { return sarama.ErrOffsetsLoadInProgress }); !errors.Is(err, sarama.ErrOffsetsLoadInProgress) {
		t.Errorf("cut short: %v", err)
	}
}

func TestDoctor_JudgesReplicas(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		replicas, inSync int
		least            string
		want             string // part of the finding; "" for none
	}{
		{3, 3, "2", ""},
		{3, 2, "2", ""},
		{3, 1, "2", "only 1 replicas are in sync"},
		{3, 3, "1", "can be lost with one broker"},
		{3, 3, "3", "with one broker down"},
		{2, 2, "3", "nothing can be written"},
		{1, 1, "1", "one replica"},
		{3, 3, "", ""},
	} {
		found := judgeReplicas(tc.replicas, tc.inSync, tc.least)
		if len(found) > 1 || (len(found) == 1) != (tc.want != "") || len(found) == 1 && !strings.Contains(found[0].problem, tc.want) {
			t.Errorf("%d replicas, %d in sync, min.insync.replicas %q: %v, want %q", tc.replicas, tc.inSync, tc.least, found, tc.want)
		}
	}
}

func TestDoctor_ReadsRightsFromTheBits(t *testing.T) {
	t.Parallel()
	for operations, want := range map[int32][]string{
		rightsUnknown:           nil,
		1<<3 | 1<<4 | 1<<8:      nil,
		1<<4 | 1<<8:             {"READ"},
		1 << 8:                  {"WRITE", "READ"},
		1<<3 | 1<<4 | 1<<5 | 16: {"DESCRIBE"},
	} {
		if diff := cmp.Diff(want, lackingRights(operations)); diff != "" {
			t.Errorf("%b (-want +got):\n%s", operations, diff)
		}
	}
}
