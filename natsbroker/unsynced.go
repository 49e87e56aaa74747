package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Without SyncAlways, a power loss takes what was acknowledged and not synced yet. Nothing in the files tells of that: the log
// is just shorter. So a log that is open has a mark in its directory, which says of which boot of the machine it is. Where a
// mark of another boot is found, what the log held then may lack its end: it is given up, so that who comes back from there is
// told of a gap, and is not told that nothing came after.

const (
	markFile  = "open"  // there while the log is open, and after it was not closed in order
	floorFile = "floor" // what is given up
	markSync  = "always"
)

// unsynced is what a directory says of what its log may lack.
type unsynced struct {
	dir    string
	always bool
	found  bool // a mark of another boot
	owes   bool // a mark of this boot, whose run may have written what is not synced yet, whatever this one syncs
	marked bool // by this process
}

// findUnsynced looks for the mark.
func findUnsynced(dir string, always bool) (*unsynced, error) {
	u := &unsynced{dir: dir, always: always}
	text, err := os.ReadFile(filepath.Join(dir, markFile))
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	boot, how, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if how != markSync {
		u.owes = boot != "" && boot == bootID()
		u.found = !u.owes
	}
	return u, err
}

// bootID is another one after each start of the machine; "" where the system doesn't say.
func bootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// mark makes the mark, before anything is appended. Where an earlier run of this boot was not synced, it says so until the log
// is closed in order.
func (u *unsynced) mark() error {
	how := "interval"
	if u.always && !u.owes {
		how = markSync
	}
	u.marked = true
	return writeSynced(filepath.Join(u.dir, markFile), fmt.Sprintf("%s %s\n", bootID(), how))
}

// unmark takes it away, once everything that was written is synced.
func (u *unsynced) unmark() error {
	if !u.marked {
		return nil
	}
	err := filepath.WalkDir(u.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return syncFile(name)
	})
	if err != nil {
		return err
	}
	return os.Remove(filepath.Join(u.dir, markFile))
}

// floor is the newest message that is given up, and of which stream.
type floor struct {
	of  identity
	seq uint64
}

// settle gives up what may lack its end, reads what was given up before, and makes the mark.
func (u *unsynced) settle(info *jetstream.StreamInfo) (floor, error) {
	name, now := filepath.Join(u.dir, floorFile), floor{identityOf(info), info.State.LastSeq}
	if u.found && now.seq > 0 {
		if err := writeSynced(name, fmt.Sprintf("%s %d %d\n", now.of.word, now.of.created.UnixNano(), now.seq)); err != nil {
			return floor{}, err
		}
		return now, u.mark()
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return floor{}, u.mark()
	}
	if err != nil {
		return floor{}, err
	}
	var f floor
	var created int64
	if _, err := fmt.Sscanf(string(text), "%s %d %d", &f.of.word, &created, &f.seq); err != nil {
		return floor{}, fmt.Errorf("%s can't be read: restore it with the directory, or give the log an empty directory (%w)", name, err)
	}
	f.of.created = time.Unix(0, created).UTC()
	return f, u.mark()
}

// settle does so for a log that only this process has, when it was opened.
func (b *Broker) settle(ctx context.Context) error {
	if b.server == nil || b.server.unsynced == nil {
		return nil
	}
	info, err := b.info(ctx)
	if err != nil {
		return b.explain(err)
	}
	if b.floor, err = b.server.unsynced.settle(info); err != nil {
		return fmt.Errorf("the log's directory: %w", err)
	}
	if b.server.unsynced.found && b.floor.seq > 0 {
		b.log.Error(logUnsynced, keyTo, b.floor.seq, keyRemedy, "nothing needs to be done; with --sync always, a power loss takes nothing")
	}
	return nil
}

// writeSynced replaces a file by one that is on the disk.
func writeSynced(name, text string) error {
	next := name + ".new"
	err := os.WriteFile(next, []byte(text), 0o600)
	if err == nil {
		err = syncFile(next)
	}
	if err == nil {
		err = os.Rename(next, name)
	}
	if err == nil {
		if d, e := os.Open(filepath.Dir(name)); e == nil { // not every system can sync a directory
			_ = d.Sync()
			_ = d.Close()
		}
	}
	return err
}

func syncFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0) // #nosec G304 -- of the log's directory
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
