package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// lockedUp is the argument of a child that has given up what it can, followed by
// what it could not.
const lockedUp = "locked-up"

// Main is the child of [Run]: args are what follows [Command]. It locks itself
// up, puts together the workspace that it was handed, calls work, and returns
// the exit code. skip is what the mounts of folders have that skip some.
//
// It begins twice: restrictions are for a thread, and only a program that is
// started by a restricted thread has none that are not.
func Main[Request, Message any](args []string, skip func(dir string) bool, work func(ctx context.Context, ws *workspace.Workspace, q Request, tell func(*Message) error) error) int {
	budget := int64(math.MaxInt64) // the parent is believed
	if len(args) == 0 || args[0] != lockedUp {
		var c cell
		err := readFrame(os.Stdin, &c, &budget)
		if err == nil {
			err = lockUp(c) // returns only if it fails
		}
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	missing := slices.Concat(args[1:], filterCalls())
	answers := os.NewFile(answersFD, "answers")
	say := func(a answer[Message]) error { return writeFrame(answers, a) }
	if err := say(answer[Message]{Ready: &readiness{missing}}); err != nil {
		return 1
	}
	var o order[Request]
	if err := readFrame(os.Stdin, &o, &budget); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // it ends when the parent does
		os.Exit(1)
	}()
	text := ""
	err := func() error {
		ws, err := assemble(o.Mounts, o.Limits, o.Temp, skip)
		if err != nil {
			return err
		}
		defer ws.Close()
		return work(context.Background(), ws, o.Request, func(m *Message) error { return say(answer[Message]{Message: m}) })
	}()
	if err != nil {
		text = err.Error()
	}
	if say(answer[Message]{Done: &text}) != nil {
		return 1
	}
	return 0
}

// assemble puts a workspace together of what was handed over.
func assemble(mounts []handed, limits workspace.Limits, temp string, skip func(string) bool) (*workspace.Workspace, error) {
	ws := workspace.New(limits, temp)
	for _, h := range mounts {
		m := workspace.Mount{Part: h.Part, Kind: h.Kind, Name: h.Name, Size: h.Size, Strip: h.Strip}
		var closer io.Closer
		if h.Kind == workspace.FolderMount {
			root, err := os.OpenRoot(folderPath(h))
			if err != nil {
				return ws, errors.Join(err, ws.Close())
			}
			if m.Root = root; h.Skip {
				m.Skip = skip
			}
		} else {
			f := os.NewFile(uintptr(h.FD), h.Name)
			m.Content, closer = f, f
		}
		if err := ws.Add(m, closer); err != nil {
			return ws, errors.Join(err, ws.Close())
		}
	}
	return ws, nil
}
