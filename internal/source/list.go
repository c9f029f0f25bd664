package source

// All lists the sources in the order in which they are asked.
var All = []*Source{
	NPM,
	PyPI,
	Path,
}
