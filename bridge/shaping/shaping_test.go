package shaping

import (
	"errors"
	"strings"
	"testing"

	"flatnet/bridge/model"
)

func TestTokenBucket(t *testing.T) {
	for l, want := range map[model.Limit][2]uint64{
		{Rate: 8_000_000, Burst: 800_000}:    {1_000_000, 100_000},
		{Rate: 8_000_000}:                    {1_000_000, 100_000},
		{Rate: 8_000_000, Burst: 16_000}:     {1_000_000, 2000},
		{Rate: 1}:                            {1, defaultBurst},
		{Rate: 1 << 50}:                      {1 << 47, 1<<31 - 1},
		{Rate: 8_000_000, Burst: 2147483647}: {1_000_000, 268435455},
	} {
		if b := bucket(l, 1500); b.Rate != want[0] || uint64(b.Burst) != want[1] || b.Limit <= b.Burst && l.Rate > 1000 {
			t.Errorf("%+v: %+v", l, b)
		}
	}
	if b := bucket(model.Limit{Rate: 8000}, 65000); b.Burst != 65014 {
		t.Errorf("the burst %d of an interface with the MTU 65000 is less than a frame", b.Burst)
	}
}

func TestBurstsThatCannotBeGiven(t *testing.T) {
	for burst, want := range map[uint64]string{
		0: "", 8 * 1414: "", 8*1414 - 1: "give at least 11312", 1: "give at least 11312",
		8 * maxBurst: "", 8*maxBurst + 8: "are more than",
	} {
		for key, b := range map[string]model.Bandwidth{
			"ingressBurst": {Ingress: model.Limit{Rate: 1e6, Burst: burst}}, "egressBurst": {Egress: model.Limit{Rate: 1e6, Burst: burst}},
		} {
			err := Check(b, 1400)
			if (err == nil) != (want == "") {
				t.Errorf("%s %d: %v", key, burst, err)
			}
			if err != nil && !(errors.Is(err, model.ErrInvalid) && strings.Contains(err.Error(), want) && strings.Contains(err.Error(), key)) {
				t.Errorf("%s %d: %v", key, burst, err)
			}
		}
	}
}
