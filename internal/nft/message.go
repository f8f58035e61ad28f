package nft

import (
	"errors"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// headerSize is the size of struct nfgenmsg: nfgen_family, version, res_id.
const headerSize = 4

// attrsAt is where a message's attributes begin, counted from its nlmsghdr.
const attrsAt = unix.NLMSG_HDRLEN + headerSize

// A request is a message to nf_tables before it is encoded.
type request struct {
	msg    uint16 // NFT_MSG_*
	flags  netlink.HeaderFlags
	family Family
	pass   func(*codec)
}

func msgType(msg uint16) netlink.HeaderType {
	return netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | msg)
}

func (r request) encode() (netlink.Message, error) {
	attrs, err := encode(r.pass)
	return netlink.Message{
		Header: netlink.Header{Type: msgType(r.msg), Flags: netlink.Request | r.flags},
		Data:   append([]byte{byte(r.family), unix.NFNETLINK_V0, 0, 0}, attrs...),
	}, err
}

// getGeneration asks for the ruleset's generation: a request that takes no
// arguments and needs no object.
func getGeneration() request {
	return request{msg: unix.NFT_MSG_GETGEN, pass: func(*codec) {}}
}

var errShort = errors.New("message without a nfgenmsg header")

func decodeMessage(m netlink.Message, pass func(*codec)) (Family, error) {
	if len(m.Data) < headerSize {
		return 0, errShort
	}
	return Family(m.Data[0]), decode(m.Data[headerSize:], pass)
}
