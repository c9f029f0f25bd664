// Package prebuilt resolves what an npm package fetches when it is installed:
// which tool does it, from which address for each platform, what the result is
// checked against, and whose address that is. Templates are expanded as the
// tools themselves expand them; how they do is said at each resolver.
//
// It reads text. It asks nobody whether there is something behind an address,
// and runs nothing.
package prebuilt

import (
	"path"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
)

// A Package is what Resolve looks at.
type Package struct {
	Manifest []byte                           // package.json
	Open     func(name string) ([]byte, bool) // a file of the package by its path inside; may be nil
}

// Options name the machines that are asked about.
type Options struct {
	Targets []Target // Targets if empty
	Nodes   []Node   // Nodes if empty
}

const (
	maxAssets    = 64 // of one download
	maxDownloads = 16 // of one package
	maxScripts   = 32 // files that are read
	maxFollow    = 2  // levels of files that a script loads
	maxDepth     = 4  // levels of npm scripts that run each other
	maxCalls     = 64 // of the tools

	// maxCommands bounds the command lines of one package, in bytes, each as
	// often as it is run: scripts can run each other thousands of times.
	maxCommands = 1 << 20
)

// The resolvers.
const (
	NodePreGyp      = "node-pre-gyp"
	PrebuildInstall = "prebuild-install"
	InstallArtifact = "install-artifact-from-github"
	Script          = "script"
	NPM             = "npm"
	SetupPy         = "setup.py"
)

// lifecycle are the scripts that npm runs when it installs a package, in their
// order (npm, Scripts, Life Cycle Operation Order).
var lifecycle = []string{"preinstall", "install", "postinstall"}

// Resolve returns what the installation of a package fetches, in the order in
// which npm runs the scripts. Paths are relative to the package. An error
// means that the manifest could not be read.
func Resolve(p Package, opt Options) ([]*inventory.Download, error) {
	m, err := readManifest(p.Manifest)
	if err != nil {
		return nil, err
	}
	if len(opt.Targets) == 0 {
		opt.Targets = Targets
	}
	if len(opt.Nodes) == 0 {
		opt.Nodes = Nodes
	}
	r := &resolver{manifest: m, open: p.Open, opt: opt, read: map[string]bool{}}
	for _, stage := range lifecycle {
		if script := m.scripts[stage]; strings.TrimSpace(script) != "" {
			r.stage, r.command = stage, script
			r.line(script, "", "package.json", 0)
		}
	}
	return r.found, nil
}

// A resolver is at work on one package.
type resolver struct {
	*manifest
	open    func(string) ([]byte, bool)
	opt     Options
	stage   string // the life-cycle script that is looked at
	command string // its text
	read    map[string]bool
	lines   int // bytes of command lines so far
	calls   int // of the tools
	found   []*inventory.Download
}

// A call is a tool with its arguments, and where it is called.
type call struct {
	args     []string
	file     string // package.json, or the script that calls it
	line     int    // in the script, from one; 0 in package.json
	fallback string
}

// line looks at a command line that runs in a folder of the package.
func (r *resolver) line(line, dir, file string, depth int) {
	if r.lines += len(line); depth > maxDepth || r.lines > maxCommands {
		return
	}
	list := Commands(line)
	fallbacks := fallbacks(list)
	for i, c := range list {
		words := unwrap(c.Words)
		if len(words) == 0 {
			continue
		}
		program := programName(words[0])
		rest := call{args: words[1:], file: file, fallback: fallbacks[i]}
		switch {
		case program == "cd" && len(words) > 1:
			dir = path.Join(dir, words[1])
		case isNode(program):
			r.node(words[1:], dir, rest)
		case program == "node-gyp-build" && len(words) > 1:
			// It runs its argument where the package holds nothing for the machine.
			r.line(words[1], dir, file, depth+1)
		case slices.Contains([]string{"npm", "yarn", "pnpm", "bun"}, program):
			r.npm(words[1:], dir, rest, depth)
		case slices.Contains([]string{"run-s", "run-p", "npm-run-all"}, program):
			for _, name := range words[1:] {
				r.npmScript(name, dir, file, depth)
			}
		case slices.Contains([]string{"sh", "bash", "dash", "zsh"}, program) && len(words) > 2 && words[1] == "-c":
			r.line(words[2], dir, file, depth+1)
		default:
			r.tool(program, rest)
		}
	}
}

// programName returns the name under which a program is known, without the
// folder and the ending that Windows gives it.
func programName(word string) string {
	name := path.Base(strings.ReplaceAll(word, `\`, "/"))
	return strings.TrimSuffix(strings.TrimSuffix(name, ".cmd"), ".exe")
}

func isNode(program string) bool {
	return slices.Contains([]string{"node", "nodejs", "bun", "tsx", "ts-node", "deno"}, program)
}

// tool looks at a program that may be one of the tools.
func (r *resolver) tool(program string, c call) {
	if r.calls++; r.calls > maxCalls {
		return
	}
	switch program {
	case "node-pre-gyp":
		r.add(r.preGyp(c))
	case "prebuild-install":
		r.add(r.prebuildInstall(c))
	case "install-from-cache":
		r.add(r.installFromCache(c))
	}
}

func (r *resolver) add(d *inventory.Download) {
	if d == nil || len(r.found) >= maxDownloads {
		return
	}
	d.Stage, d.Command = r.stage, r.command
	if len(d.Assets) > maxAssets {
		d.Omitted = len(d.Assets) - maxAssets
		d.Assets = d.Assets[:maxAssets]
	}
	same := func(o *inventory.Download) bool {
		return o.Resolver == d.Resolver && slices.EqualFunc(o.Assets, d.Assets, func(a, b inventory.Asset) bool { return a.URL == b.URL })
	}
	if !slices.ContainsFunc(r.found, same) {
		r.found = append(r.found, d)
	}
}

// moduleTools are the files of the tools that node can be told to run.
var moduleTools = []struct{ folder, program string }{
	{"/node-pre-gyp/", "node-pre-gyp"}, {"/.bin/node-pre-gyp", "node-pre-gyp"},
	{"/prebuild-install/", "prebuild-install"}, {"/.bin/prebuild-install", "prebuild-install"},
	{"/install-artifact-from-github/", "install-from-cache"}, {"/.bin/install-from-cache", "install-from-cache"},
}

// node looks at what node runs: a tool by its file, or a script.
func (r *resolver) node(args []string, dir string, c call) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "-e" || arg == "--eval" || arg == "-p" || arg == "--print" || arg == "-pe":
			if i+1 < len(args) {
				r.source(args[i+1], dir, c.file, c.fallback, maxFollow)
			}
			return
		case arg == "-r" || arg == "--require":
			if i+1 < len(args) {
				r.file(path.Join(dir, args[i+1]), c.fallback, 0)
			}
			i++
		case strings.HasPrefix(arg, "-"):
		default:
			for _, t := range moduleTools {
				if strings.Contains("/"+arg, t.folder) {
					c.args = args[i+1:]
					r.tool(t.program, c)
					return
				}
			}
			r.file(path.Join(dir, arg), c.fallback, 0)
			return
		}
	}
}

// npm looks at a call of a package manager: of another script, or of the tools
// by their names.
func (r *resolver) npm(args []string, dir string, c call, depth int) {
	var words []string
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			words = append(words, arg)
		}
	}
	if len(words) == 0 {
		return
	}
	switch words[0] {
	case "run", "run-script":
		if len(words) > 1 {
			r.npmScript(words[1], dir, c.file, depth)
		}
	case "exec", "x", "dlx":
		r.line(quoteAll(args[1+slices.Index(args, words[0]):]), dir, c.file, depth+1)
	case "install", "i", "add":
		r.npmInstall(words[1:], c)
	default:
		r.npmScript(words[0], dir, c.file, depth)
	}
}

func quoteAll(words []string) string {
	var out []string
	for _, w := range words {
		out = append(out, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(w)+`"`)
	}
	return strings.Join(out, " ")
}

// npmScript looks at a script of package.json and those that npm runs around
// it.
func (r *resolver) npmScript(name, dir, file string, depth int) {
	for _, stage := range []string{"pre" + name, name, "post" + name} {
		if script := r.scripts[stage]; script != "" && script != r.command {
			r.line(script, dir, file, depth+1)
		}
	}
}

// npmInstall is an installation of other packages while this one is installed.
func (r *resolver) npmInstall(names []string, c call) {
	var assets []inventory.Asset
	for _, name := range names {
		if name = r.expand(name); name != "" && !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "/") {
			assets = append(assets, inventory.Asset{URL: "npm:" + name, Open: strings.Contains(name, "${")})
		}
	}
	if len(assets) == 0 {
		return
	}
	r.add(&inventory.Download{
		Path: c.file, Line: c.line, Resolver: NPM, Tool: "npm", Assets: assets, Fallback: c.fallback,
		Pin: inventory.PinnedRegistry, Owner: inventory.UnknownOwner,
	})
}

// rows makes one asset for each address of all machines and release lines of
// Node: what does not change the address is left out.
func (r *resolver) rows(one func(Target, Node) (inventory.Asset, bool)) []inventory.Asset {
	var out []inventory.Asset
	index := map[string]int{}
	for _, t := range r.opt.Targets {
		for _, n := range r.opt.Nodes {
			a, ok := one(t, n)
			if !ok {
				continue
			}
			a.Platform, a.Arch, a.Libc, a.ABI = t.Platform, t.Arch, t.Libc, n.ABI
			i, seen := index[a.URL]
			if !seen {
				index[a.URL] = len(out)
				out = append(out, a)
				continue
			}
			keep := &out[i]
			for _, field := range []struct {
				have *string
				new  string
			}{{&keep.Platform, a.Platform}, {&keep.Arch, a.Arch}, {&keep.Libc, a.Libc}, {&keep.ABI, a.ABI}} {
				if *field.have != field.new {
					*field.have = ""
				}
			}
		}
	}
	return out
}

// judge fills in what the addresses say.
func (r *resolver) judge(d *inventory.Download) *inventory.Download {
	d.Owner = inventory.SameOwner
	for i, a := range d.Assets {
		d.Mutable = d.Mutable || mutable(a.URL)
		switch o := r.owner(a.URL); {
		case o == inventory.OtherOwner || i == 0:
			d.Owner = o
		case o == inventory.UnknownOwner && d.Owner == inventory.SameOwner:
			d.Owner = o
		}
		if d.Owner == inventory.OtherOwner {
			break
		}
	}
	if len(d.Assets) == 0 {
		d.Owner, d.Mutable = inventory.UnknownOwner, true
	}
	if d.Pin == "" {
		d.Pin = inventory.Unpinned
	}
	return d
}
