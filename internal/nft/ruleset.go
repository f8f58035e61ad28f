package nft

import "slices"

// A Ruleset is a chain with all of its rules.
type Ruleset struct {
	Chain
	Rules []Rule
}

// Append appends rules of the chain with a comment.
func (r *Ruleset) Append(comment string, rules ...[]Expr) {
	for _, exprs := range rules {
		r.Rules = append(r.Rules, Rule{Table: r.Table, Chain: r.Name, Exprs: exprs, Comment: comment})
	}
}

// In reports whether rules, which may be of several chains, are for this chain
// exactly its own.
func (r Ruleset) In(rules []Rule) bool {
	have := slices.DeleteFunc(slices.Clone(rules), func(o Rule) bool { return o.Table != r.Table || o.Chain != r.Name })
	return slices.EqualFunc(have, r.Rules, Rule.Equal)
}

// Put adds the chain with its rules to a batch, in place of the rules that are there.
// A chain that is to have none is deleted.
func (b *Batch) Put(r Ruleset) {
	if len(r.Rules) == 0 {
		b.Flush(r.Chain)
		b.Delete(r.Chain)
		return
	}
	b.Add(r.Table, r.Chain)
	b.Flush(r.Chain)
	for _, rule := range r.Rules {
		b.Add(rule)
	}
}

// Missing returns the chains that are not among rules as they should be.
func Missing(chains []Ruleset, rules []Rule) []Ruleset {
	return slices.DeleteFunc(chains, func(r Ruleset) bool { return r.In(rules) })
}

// PutMissing adds a table with sets and its missing chains to a batch. If no chain is
// missing, all is there, for rules refer to each of the sets.
func (b *Batch) PutMissing(t Table, sets []Set, chains []Ruleset) {
	if len(chains) > 0 {
		b.Add(t)
		for _, s := range sets {
			b.Add(s)
		}
	}
	for _, r := range chains {
		b.Put(r)
	}
}
