// Loupe is a security scanner for what a team ships. Run `loupe help`.
package main

import (
	"os"

	"github.com/loupe-sec/loupe/internal/faces/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], cli.System())) }
