package cli

// A PlanQuery is what flatnet plan asks for.
type PlanQuery struct {
	File      string // "-" is stdin; empty: the network's own
	Network   string // empty: the file's, or the only one there is
	Container string // its ID; empty: any
	JSON      bool
}

func planCommand() command {
	return command{name: "plan", alike: []string{"dry-run", "simulate", "preview", "diff"}, arguments: []string{"[NETWORK]"},
		options: []option{{name: "--file", short: "-f", value: "CONFLIST", summary: "the configuration, - for stdin"},
			{name: "--container", value: "ID", summary: "the container's ID, which names its interface"}, jsonOption()},
		summary: "show what an ADD would make, and make nothing",
		help: "Without -f, it searches /etc/cni/net.d and Podman's networks. If the ADD would\nfail, the plan fails with the same error. " +
			"Without root, what can't be read is\nlisted as unknown.",
		examples: []string{"flatnet plan flatnet # the next address, the routes, the rules", "flatnet plan -f new.conflist # before it is installed"},
		run: func(c *Call, q query) ([]string, error) {
			return c.Plan(PlanQuery{q.value("--file"), q.arg(0), q.value("--container"), q.has("--json")})
		}}
}
