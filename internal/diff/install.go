package diff

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/rules"
)

var replaced = rules.Get("download/asset-changed")

// install compares what happens at installation.
func (c *comparison) install() report.InstallDiff {
	return report.InstallDiff{Scripts: c.scripts(), Downloads: c.downloads(), Assets: c.assets()}
}

// scripts compares the commands that package managers run at installation. They
// stand in the findings about them and in the downloads that they cause.
func (c *comparison) scripts() []report.ScriptChange {
	type key struct{ path, stage string }
	type script struct{ path, command string }
	collect := func(side int, r *report.Report) map[key]script {
		out := map[key]script{}
		for _, f := range r.Findings {
			stage, ok := strings.CutPrefix(f.Location.Symbol, "scripts.")
			if !ok || !strings.HasPrefix(f.Rule, "install/") {
				continue
			}
			for _, e := range f.Evidence {
				if e.Kind == "script" && e.Value != "" {
					out[key{c.place(side, f.Location.Path), stage}] = script{f.Location.Path, e.Value}
					break
				}
			}
		}
		return out
	}
	from, to := collect(0, c.from), collect(1, c.to)
	keys := slices.Collect(maps.Keys(from))
	for k := range to {
		if _, ok := from[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b key) int { return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.stage, b.stage)) })
	out := []report.ScriptChange{}
	for _, k := range keys {
		a, b := from[k], to[k]
		if c.paths.versionless(a.command) == c.paths.versionless(b.command) {
			continue
		}
		out = append(out, report.ScriptChange{Status: status(a.command != "", b.command != ""), Path: cmp.Or(b.path, a.path), Stage: k.stage, From: a.command, To: b.command})
	}
	return out
}

func status(before, after bool) report.DiffStatus {
	switch {
	case !before:
		return report.DiffAdded
	case !after:
		return report.DiffRemoved
	}
	return report.DiffChanged
}

// downloads compares what is fetched at installation. Those of the same tool
// go together, and else those of the same life-cycle script.
func (c *comparison) downloads() []report.DownloadChange {
	type side = []*inventory.Download
	sorted := func(n int, list side) side {
		list = slices.DeleteFunc(slices.Clone(list), func(d *inventory.Download) bool { return d == nil })
		slices.SortStableFunc(list, func(a, b *inventory.Download) int {
			return cmp.Or(cmp.Compare(c.place(n, a.Path), c.place(n, b.Path)), cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Resolver, b.Resolver), cmp.Compare(address(a), address(b)), cmp.Compare(a.Line, b.Line))
		})
		return list
	}
	from, to := sorted(0, c.from.Downloads), sorted(1, c.to.Downloads)
	out := []report.DownloadChange{}
	for _, key := range []func(n int, d *inventory.Download) string{
		func(n int, d *inventory.Download) string {
			return strings.Join([]string{c.place(n, d.Path), d.Stage, d.Resolver, c.paths.versionless(address(d))}, "\x00")
		},
		func(n int, d *inventory.Download) string {
			return strings.Join([]string{c.place(n, d.Path), d.Stage, d.Resolver}, "\x00")
		},
		func(n int, d *inventory.Download) string { return d.Stage },
	} {
		waiting := map[string]side{}
		for _, d := range from {
			waiting[key(0, d)] = append(waiting[key(0, d)], d)
		}
		done := map[*inventory.Download]bool{}
		for _, d := range to {
			list := waiting[key(1, d)]
			if len(list) == 0 {
				continue
			}
			waiting[key(1, d)] = list[1:]
			done[d], done[list[0]] = true, true
			if a, b := newSide(list[0]), newSide(d); c.differ(a, b) {
				out = append(out, report.DownloadChange{Status: report.DiffChanged, Stage: cmp.Or(d.Stage, list[0].Stage), From: a, To: b})
			}
		}
		paired := func(d *inventory.Download) bool { return done[d] }
		from, to = slices.DeleteFunc(from, paired), slices.DeleteFunc(to, paired)
	}
	for _, d := range from {
		out = append(out, report.DownloadChange{Status: report.DiffRemoved, Stage: d.Stage, From: newSide(d)})
	}
	for _, d := range to {
		out = append(out, report.DownloadChange{Status: report.DiffAdded, Stage: d.Stage, To: newSide(d)})
	}
	return out
}

// address returns the first address of a download.
func address(d *inventory.Download) string {
	if len(d.Assets) == 0 {
		return ""
	}
	return d.Assets[0].URL
}

func newSide(d *inventory.Download) *report.DownloadSide {
	return &report.DownloadSide{
		Tool: printable(cmp.Or(d.Tool, d.Resolver)), Command: printable(d.Command), URL: printable(address(d)), Assets: len(d.Assets) + d.Omitted,
		Pin: cmp.Or(d.Pin, inventory.Unpinned), Owner: cmp.Or(d.Owner, inventory.UnknownOwner),
	}
}

// differ reports whether two downloads are not the same but for versions.
func (c *comparison) differ(a, b *report.DownloadSide) bool {
	plain := func(d *report.DownloadSide) [3]string {
		return [3]string{tool(d), c.paths.bare(d.URL), string(d.Pin) + string(d.Owner)}
	}
	return plain(a) != plain(b)
}

// tool returns the name of what fetches, without the range of its versions.
func tool(d *report.DownloadSide) string {
	name, _, _ := strings.Cut(d.Tool, " ")
	return name
}

// fetches says in a phrase how a side downloads.
func fetches(d *report.DownloadSide) string {
	text := "with " + tool(d)
	if tool(d) == "script" {
		text = "with a script of its own"
	}
	if d.URL != "" {
		text += " from " + d.URL
	}
	return text
}

// fetched is the sentence of a download for people.
func fetched(d *report.DownloadSide) string {
	text := "Downloads " + fetches(d) + " at installation"
	switch {
	case strings.HasPrefix(d.URL, "http:"):
		text += ", without protection on the way"
	case d.Pin == inventory.Unpinned:
		text += ", without a check of its hash"
	}
	return text + "."
}

// host returns the host of an address, or nothing.
func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// assets finds addresses that both sides fetch and that hold other bytes: what
// was published was replaced.
func (c *comparison) assets() []report.AssetChange {
	collect := func(r *report.Report) map[string]string {
		out := map[string]string{}
		for _, d := range r.Downloads {
			if d == nil {
				continue
			}
			for _, a := range d.Assets {
				if a.Fetched != nil && a.Fetched.SHA256 != "" {
					out[cmp.Or(a.Fetched.URL, a.URL)] = a.Fetched.SHA256
				}
			}
		}
		return out
	}
	from, to := collect(c.from), collect(c.to)
	out := []report.AssetChange{}
	for _, u := range slices.Sorted(maps.Keys(from)) {
		if sum, ok := to[u]; ok && sum != from[u] {
			out = append(out, report.AssetChange{Severity: max(replaced.Severity, finding.Critical), URL: printable(u), FromSHA256: from[u], ToSHA256: sum})
		}
	}
	return out
}

func quoted(s string) string { return fmt.Sprintf("%q", printable(s)) }
