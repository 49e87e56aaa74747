package scenario

import "time"

// A Scale is how large a run is.
type Scale struct {
	Reduced    bool // the numbers mean nothing: it is to see that everything works
	Rounds     int  // of Tidings and of the floor, side by side
	PeerRounds int  // of peers in paced and burst
	FewRounds  int  // of peers in what takes long

	IdleFrom, IdleTo   int           // connections
	OtherFrom, OtherTo int           // the same, over TLS and HTTP/2
	IdleRounds         int           // of Tidings and of the floor; peers have one, for the slope hardly varies
	Settle             time.Duration // until memory is read

	Connections int           // of paced, burst, stalled and flood
	Rate        float64       // broadcasts a second
	Paced       time.Duration // that they are sent for

	Burst      int // broadcasts
	Flood      int // broadcasts
	Many       int // connections of unicast, mixed and storm
	Unicasts   int // events, at most
	Enough     time.Duration
	Mixed      time.Duration
	MixedRate  float64 // unicasts a second
	Large      int     // connections of scale
	Stalled    int     // connections that don't read
	StalledFor time.Duration
}

// Full is what the numbers are from.
func Full() Scale {
	return Scale{
		Rounds: 5, PeerRounds: 3, FewRounds: 2,
		IdleFrom: 2_000, IdleTo: 18_000, OtherFrom: 1_000, OtherTo: 6_000, IdleRounds: 3, Settle: 2 * time.Second,
		Connections: 1_000, Rate: 50, Paced: 5 * time.Second,
		Burst: 2_000, Flood: 20_000, Many: 10_000, Unicasts: 600_000, Enough: 4 * time.Second,
		Mixed: 6 * time.Second, MixedRate: 500, Large: 19_000, Stalled: 20, StalledFor: 10 * time.Second,
	}
}

// Quick runs everything in less than 3 minutes.
func Quick() Scale {
	return Scale{
		Reduced: true, Rounds: 1, PeerRounds: 1, FewRounds: 1,
		IdleFrom: 200, IdleTo: 1_200, OtherFrom: 100, OtherTo: 500, IdleRounds: 1, Settle: 300 * time.Millisecond,
		Connections: 200, Rate: 50, Paced: time.Second,
		Burst: 200, Flood: 2_000, Many: 1_000, Unicasts: 10_000, Enough: time.Second,
		Mixed: time.Second, MixedRate: 200, Large: 2_000, Stalled: 5, StalledFor: 2 * time.Second,
	}
}

// Tiny is for tests.
func Tiny() Scale {
	return Scale{
		Reduced: true, Rounds: 1, PeerRounds: 1, FewRounds: 1,
		IdleFrom: 10, IdleTo: 50, OtherFrom: 5, OtherTo: 20, IdleRounds: 1, Settle: 10 * time.Millisecond,
		Connections: 20, Rate: 50, Paced: 200 * time.Millisecond,
		Burst: 50, Flood: 100, Many: 50, Unicasts: 1_000, Enough: 200 * time.Millisecond,
		Mixed: 300 * time.Millisecond, MixedRate: 100, Large: 60, Stalled: 2, StalledFor: 300 * time.Millisecond,
	}
}
