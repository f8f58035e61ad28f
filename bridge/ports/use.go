package ports

import "flatnet/internal/nft"

// IPv4 returns the table of the ports that are published in IPv4, and what rules that other
// packages add to it are made of: the ends of two that translate the destination to that of
// a port, of one address and of all addresses, and a condition that matches packets to an
// address with published ports.
func IPv4() (table nft.Table, translate [2][]nft.Expr, toTarget []nft.Expr) {
	t := tables()[0]
	to := nft.Destination.Of(t.Family)
	toTarget = []nft.Expr{to.Load(nft.Reg1), to.Load(nft.Reg32(t.words)), t.in(t.selves)}
	return t.Table, [2][]nft.Expr{t.dnat(t.somewhere), t.dnat(t.everywhere)}, toTarget
}
