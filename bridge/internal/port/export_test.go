package port

// For tests of what a PTY cannot show.
var (
	Drives      = drives
	WithOutputs = withOutputs
	LinesOf     = linesOf
	SettingsOf  = settingsOf
)
