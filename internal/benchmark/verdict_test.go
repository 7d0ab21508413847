package benchmark

import (
	"strings"
	"testing"
)

func TestJudge_NamesWhatLimitsAndWhy(t *testing.T) {
	t.Parallel()
	report := &Report{Cores: 4, PostgresRoundTrip: 0.4, KafkaRoundTrip: 2}
	for name, tc := range map[string]struct {
		drain Drain
		limit string
		why   []string
	}{
		"too short": {Drain{}, LimitUnclear, []string{"raise the number of events"}},
		"as fast as the walsender": {
			Drain{Ratio: known(.93), Paced: Read{WalsenderCores: known(.97), MachineCores: known(1.2)}},
			LimitWalsender, []string{"0.93 of the rate", "0.97 of a core"}},
		"as fast as a walsender that waits for the link": {
			Drain{Ratio: known(.93), Paced: Read{WalsenderCores: known(.3), MachineCores: known(1.2)}},
			LimitNetwork, []string{"only 0.30 of a core", "0.40 ms"}},
		"as fast as a walsender that gets no core": {
			Drain{Ratio: known(1.03), Paced: Read{WalsenderCores: known(.1), MachineCores: known(4)}},
			LimitMachine, []string{"all 4 cores", "something else"}},
		"as fast as a walsender elsewhere": {
			Drain{Ratio: known(.86), Paced: Read{MachineCores: known(4)}},
			LimitSending, []string{"Postgres runs elsewhere"}},
		"all cores in use": {
			Drain{Ratio: known(.5), MachineCores: known(3.9), RelayCores: known(1.5), WalsenderCores: known(.5), KafkaFull: true, AckTime: known(500)},
			LimitMachine, []string{"only 0.50", "all 4 cores", "the relay 1.50", "the walsender 0.50", "everything else here 1.90"}},
		"brokers slow": {
			Drain{Ratio: known(.2), MachineCores: known(2), RelayCores: known(.5), KafkaFull: true, AckTime: known(500)},
			LimitBroker, []string{"takes 500 ms", "round trip is only 2.0"}},
		"brokers far away": {
			Drain{Ratio: known(.2), MachineCores: known(2), RelayCores: known(.5), KafkaFull: true, AckTime: known(5)},
			LimitNetwork, []string{"the round trip to the brokers is 2"}},
		"relay busy": {
			Drain{Ratio: known(.6), MachineCores: known(2), RelayCores: known(1.3), WalsenderCores: known(.9), InFlight: 300},
			LimitRelay, []string{"1.30 cores", "300 events"}},
		"walsender busier than when it is read at pace": {
			Drain{Ratio: known(.6), MachineCores: known(2), RelayCores: known(.6), WalsenderCores: known(.9)},
			LimitWalsender, []string{"0.90 of a core meanwhile"}},
		"nothing stands out": {
			Drain{Ratio: known(.6), MachineCores: known(1), RelayCores: known(.3), WalsenderCores: known(.3)},
			LimitUnclear, []string{"the relay 0.30", "everything else here 0.40"}},
		"nothing is known": {
			Drain{Ratio: known(.6)},
			LimitUnclear, []string{"CPU times are not known"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := judge(tc.drain, report)
			if got.Limit != tc.limit {
				t.Errorf("limit is %q, want %q: %s", got.Limit, tc.limit, got.Why)
			}
			for _, want := range tc.why {
				if !strings.Contains(got.Why, want) {
					t.Errorf("evidence lacks %q: %s", want, got.Why)
				}
			}
		})
	}
}

func TestReport_IsDisturbedByATenthOfTheMachine(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		background *float64
		want       bool
	}{"not known": {nil, false}, "quiet": {known(.1), false}, "busy": {known(.5), true}} {
		r := Report{Cores: 4, Background: tc.background}
		if got := r.Disturbed(); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
