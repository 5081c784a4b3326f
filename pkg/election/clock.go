package election

import (
	"time"

	"golang.org/x/sys/unix"
)

// BootTime reads the clock that counts since boot and goes on while the machine is suspended (clock_gettime(2)): a speaker
// that slept must find its right lapsed.
func BootTime() Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// The only documented errors are a bad pointer and an unknown clock: CLOCK_BOOTTIME is in Linux since 2.6.39.
		return Instant(time.Since(processStart))
	}
	return Instant(ts.Nano())
}

var processStart = time.Now()
