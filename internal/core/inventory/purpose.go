package inventory

import "github.com/loupe-sec/loupe/internal/core/scan"

// Purposes is the fact that a package says of itself what it is for.
var Purposes = scan.NewFact[Purpose]("purposes")

// A Purpose is what a package says that it is.
type Purpose struct {
	Folder      string // that holds its files; empty for the root of the target
	Name        string
	Description string
	Keywords    []string
	Links       []string // libraries that its build file links, "-lssl" as "ssl"
}

// Purpose returns what a release says of itself.
func (r *Release) Purpose() Purpose {
	return Purpose{Name: r.Name, Description: r.Description, Keywords: r.Keywords}
}
