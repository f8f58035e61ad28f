package antispoof

import (
	"flatnet/bridge/elements"
	"flatnet/bridge/model"
	"flatnet/internal/nft"
)

// Owners lists the attachments of a network that are checked, some of them several times.
func Owners(c *nft.Conn, network string) (keys []model.Key, err error) {
	for _, family := range families() {
		all, err := elements.List(c, tableOf(family, network).sets()...)
		if err != nil {
			return nil, err
		}
		for _, e := range all {
			if key, ok := model.ParseKey(e.Comment); ok && key.Network == network {
				keys = append(keys, key)
			}
		}
	}
	return keys, nil
}
