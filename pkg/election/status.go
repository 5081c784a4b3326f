package election

import "time"

// Status is what an Elector has found out.
type Status struct {
	// Hold names the VIPs that this node should have until Until, in order. Those of Leaving it may not announce.
	Hold    []string
	Leaving []string
	Until   Instant
	// Settled is true once this speaker took part: until then Hold is empty for want of knowledge.
	Settled bool
	// Speakers are the infos of all living speakers by node, this one's too.
	Speakers map[string]Info
	// Silent is for how long the other speakers gave no sign of life, of those that ever did, the dead ones too: they neither renewed
	// their heartbeats nor were reached. One that was dead already when this one began is not among them.
	Silent map[string]time.Duration
}

// Status tells what the Elector has found out.
func (e *Elector) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	status := e.status
	status.Settled, status.Speakers = e.settled, map[string]Info{}
	for node, info := range e.infos {
		if e.alive[node] {
			status.Speakers[node] = info
		}
	}
	if e.announced {
		status.Speakers[e.config.Node] = e.info
	}
	status.Silent = e.silent(e.config.Clock())
	return status
}

// silent is Status.Silent. The lock is held.
func (e *Elector) silent(now Instant) map[string]time.Duration {
	silent := make(map[string]time.Duration, len(e.renewed))
	for node, at := range e.renewed {
		silent[node] = now.Sub(at)
	}
	for node, reach := range e.view.Reach {
		unreached := time.Duration(0)
		if !reach.Alive {
			unreached = now.Sub(reach.Dead)
		}
		if renewed, known := silent[node]; !known || unreached < renewed {
			silent[node] = unreached
		}
	}
	return silent
}

// claimLull is how long after a write of a claim another may come of the same takeover: one that is decided when it ended.
const claimLull = 100 * time.Millisecond

// Claiming reports whether claims are being written now.
func (e *Elector) Claiming() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.claiming > 0 || e.claimed > 0 && e.config.Clock() < e.claimed.Add(claimLull)
}

// Until is when the right to announce any VIP lapses, unless it is prolonged before.
func (e *Elector) Until() Instant {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status.Until
}
