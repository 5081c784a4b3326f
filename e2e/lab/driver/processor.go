package driver

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// takeProcessor takes a processor for a guest, the last one that no other run has, as long as the lock is open. There is
// neither if none is free or the machine has only one: such a guest runs where it can.
func takeProcessor(registry string) (processors []int, lock *os.File, err error) {
	var usable unix.CPUSet
	if err := unix.SchedGetaffinity(0, &usable); err != nil {
		return nil, nil, fmt.Errorf("list processors: %w", err)
	}
	left := usable.Count()
	if left < 2 {
		return nil, nil, nil
	}
	var all []int
	for processor := 0; left > 0; processor++ {
		if usable.IsSet(processor) {
			all = append(all, processor)
			left--
		}
	}
	for i := len(all) - 1; i >= 0; i-- {
		path := filepath.Join(registry, ".processor-"+strconv.Itoa(all[i]))
		lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, nil, fmt.Errorf("take processor %d: %w", all[i], err)
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			return all[i : i+1], lock, nil
		}
		_ = lock.Close()
	}
	return nil, nil, nil
}
