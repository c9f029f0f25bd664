//go:build !unix

package sandbox

import (
	"errors"
	"os"
	"syscall"
)

var errNoChild = errors.New("this system cannot hand open files to another process")

func itself() (string, error)           { return "", errNoChild }
func attributes() *syscall.SysProcAttr  { return nil }
func reopen(*os.File) (*os.File, error) { return nil, errNoChild }
func folderPath(h handed) string        { return h.Name }
func closable() error                   { return errors.New("Landlock is Linux's") }
func signalled(*os.ProcessState) string { return "" }
func lockUp(cell) error                 { return errNoChild }
