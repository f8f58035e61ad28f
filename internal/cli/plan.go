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
		summary: "say what an ADD would make, and make nothing",
		help: "Without -f, the network is looked for in /etc/cni/net.d and among Podman's\nnetworks. The error, if there is one, is that of the ADD. " +
			"Without root, what\ncan't be asked is listed as unknown.",
		examples: []string{"flatnet plan flatnet # the next address, the routes, the rules", "flatnet plan -f new.conflist # before it is installed"},
		run: func(c *Call, q query) ([]string, error) {
			return c.Plan(PlanQuery{q.value("--file"), q.arg(0), q.value("--container"), q.has("--json")})
		}}
}
