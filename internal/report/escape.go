package report

// InMarkdown returns prose from anywhere as it stands in GitHub Flavored
// Markdown: on one line, at most limit bytes of it, with nothing in it that is
// markup, a link or the name of a person to notify.
func InMarkdown(text string, limit int) string { return literal(text, limit) }

// CodeInMarkdown returns a name from anywhere in the type of code, as InMarkdown
// does prose.
func CodeInMarkdown(name string, limit int) string { return code(name, limit) }
