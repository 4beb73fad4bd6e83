package agent

import (
	"io"

	"github.com/serialspan/serialspan/bridge/use"
)

// RetryNow does what the agent does every ten seconds.
func (a *Agent) RetryNow() {
	a.claims.retry()
	a.wanted.retry()
}

// Close closes an agent that was made and not run.
func (a *Agent) Close() { a.close() }

// StatusOf returns the status of what Agent.Console opened.
func StatusOf(stream io.ReadWriteCloser) use.Status {
	return stream.(console).ReadWriteCloser.(interface{ Status() use.Status }).Status()
}
