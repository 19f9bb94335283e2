//go:build unix

package tallystick

import (
	"os"
	"syscall"
)

// lockFile holds a file until it is closed, or this process dies. The error says that another holds it. The system closes
// the descriptor in programs that this one starts.
func lockFile(path string, create bool) (*os.File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	file, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
