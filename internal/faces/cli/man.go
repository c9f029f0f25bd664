package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

func newMan(s Streams) *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual pages into a folder",
		Example: `  loupe man ~/.local/share/man/man1`,
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, list []string) error {
			if err := os.MkdirAll(list[0], 0o755); err != nil {
				return fault.New(fault.Unavailable, "the folder %s cannot be made", list[0]).Because(err)
			}
			root := c.Root()
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Section: "1", Source: "Loupe " + version(), Manual: "Loupe", Date: new(time.Time)}
			if err := doc.GenManTree(root, header, list[0]); err != nil {
				return fault.New(fault.Unavailable, "the manual pages cannot be written to %s", list[0]).Because(err)
			}
			_, err := fmt.Fprintf(s.Err, "the manual pages are in %s\n", list[0])
			return err
		},
	}
}
