package agent

// RetryNow does what the agent does every ten seconds.
func (a *Agent) RetryNow() {
	a.claims.retry()
	a.wanted.retry()
}

// Close closes an agent that was made and not run.
func (a *Agent) Close() { a.close() }
