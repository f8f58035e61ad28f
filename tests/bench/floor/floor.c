/*
 * Usage: floor ADD|DEL|nothing, with CNI_CONTAINERID, CNI_NETNS, FLOOR_BRIDGE and
 * FLOOR_LEASES (a directory) in the environment.
 *
 * The yardstick of make bench: what flatnet's ADD and DEL do for a container with
 * an IPv4 address, with the fewest system calls: no checks, no undo, one format,
 * numbers instead of a network's configuration. The container's traffic to the
 * outside is masqueraded by a set element, as there would be a rule to keep for
 * each container otherwise.
 *
 *   ADD  lease, synced to disk; bridge and forwarding if they are missing; a veth
 *        pair whose one end is born in the container's namespace; addresses and
 *        routes there, in one batch; the set element; a result
 *   DEL  lease, set element, veth pair
 *   nothing  what starting a program costs
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define NETWORK 0x0a580000u /* 10.88.0.0/16, and the gateway is its first address */
#define PREFIX 16
#define TABLE "floor"
#define CHAIN "masquerade"
#define SET "containers"

static void fail(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static const char *variable(const char *name)
{
	const char *value = getenv(name);
	if (!value) {
		fprintf(stderr, "floor: %s is not set\n", name);
		exit(2);
	}
	return value;
}

/* Netlink messages, one after the other, to be sent at once. */
static struct {
	_Alignas(4) char bytes[8192];
	size_t used;
	struct nlmsghdr *message;
} batch;

static void *room(size_t size)
{
	void *at = batch.bytes + batch.used;
	batch.used += NLMSG_ALIGN(size);
	if (batch.used > sizeof batch.bytes)
		abort();
	memset(at, 0, NLMSG_ALIGN(size));
	return at;
}

static void begin(int type, int flags, const void *header, size_t size)
{
	batch.message = room(NLMSG_HDRLEN);
	batch.message->nlmsg_type = type;
	batch.message->nlmsg_flags = NLM_F_REQUEST | flags;
	memcpy(room(size), header, size);
}

static void end(void)
{
	batch.message->nlmsg_len = batch.bytes + batch.used - (char *)batch.message;
}

static void attribute(int type, const void *value, size_t size)
{
	struct nlattr *a = room(NLA_HDRLEN + size);
	a->nla_type = type;
	a->nla_len = NLA_HDRLEN + size;
	memcpy((char *)a + NLA_HDRLEN, value, size);
}

static void number(int type, uint32_t value) { attribute(type, &value, sizeof value); }
static void ordered(int type, uint32_t value) { number(type, htonl(value)); }
static void text(int type, const char *value) { attribute(type, value, strlen(value) + 1); }

static struct nlattr *open_nest(int type)
{
	struct nlattr *a = room(NLA_HDRLEN);
	a->nla_type = type | NLA_F_NESTED;
	return a;
}

static void close_nest(struct nlattr *a) { a->nla_len = batch.bytes + batch.used - (char *)a; }

static int dial(int protocol)
{
	int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	if (s < 0)
		fail("netlink");
	return s;
}

/*
 * transact sends the batch and returns 0 or the errno of the first answer. Only
 * the last message asks for one, and the kernel has put it there, or an error of
 * an earlier message, before send returns.
 */
static int transact(int s)
{
	_Alignas(4) char answer[8192];
	struct nlmsghdr *h = (void *)answer;
	size_t size = batch.used;

	batch.used = 0;
	if (send(s, batch.bytes, size, 0) < 0 || recv(s, answer, sizeof answer, 0) < (ssize_t)NLMSG_HDRLEN)
		return errno;
	return h->nlmsg_type == NLMSG_ERROR ? -((struct nlmsgerr *)NLMSG_DATA(h))->error : 0;
}

static void must(int s, const char *what)
{
	if ((errno = transact(s)))
		fail(what);
}

static int index_of(int s, const char *name)
{
	struct ifreq r = {0};
	strncpy(r.ifr_name, name, IFNAMSIZ - 1);
	return ioctl(s, SIOCGIFINDEX, &r) < 0 ? 0 : r.ifr_ifindex;
}

static void raise_link(int index, int flags)
{
	struct ifinfomsg link = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	begin(RTM_NEWLINK, flags, &link, sizeof link);
	end();
}

static void add_address(int index, uint32_t host, int flags)
{
	struct ifaddrmsg a = {.ifa_family = AF_INET, .ifa_prefixlen = PREFIX, .ifa_index = index};
	begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL | flags, &a, sizeof a);
	ordered(IFA_LOCAL, NETWORK | host);
	ordered(IFA_ADDRESS, NETWORK | host);
	ordered(IFA_BROADCAST, NETWORK | 0xffff);
	end();
}

static void add_default_route(int index, int flags)
{
	struct rtmsg r = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT, .rtm_type = RTN_UNICAST};
	begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL | flags, &r, sizeof r);
	ordered(RTA_GATEWAY, NETWORK | 1);
	number(RTA_OIF, index);
	end();
}

/* With a MAC address of its own the bridge does not take that of a port. */
static int bridge(int s)
{
	static const uint8_t mac[6] = {0x02, 0x58, 0, 0, 0, 1};
	const char *name = variable("FLOOR_BRIDGE");
	struct ifinfomsg link = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	int index = index_of(s, name);

	if (index)
		return index;
	begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, &link, sizeof link);
	text(IFLA_IFNAME, name);
	attribute(IFLA_ADDRESS, mac, sizeof mac);
	struct nlattr *info = open_nest(IFLA_LINKINFO);
	text(IFLA_INFO_KIND, "bridge");
	close_nest(info);
	end();
	must(s, "bridge");
	index = index_of(s, name);
	add_address(index, 1, NLM_F_ACK);
	must(s, "address of the bridge");
	return index;
}

static void forward(void)
{
	char now;
	int f = open("/proc/sys/net/ipv4/ip_forward", O_RDWR | O_CLOEXEC);
	if (f < 0 || read(f, &now, 1) != 1 || (now != '1' && pwrite(f, "1", 1, 0) != 1))
		fail("ip_forward");
	close(f);
}

static void one_queue(void)
{
	number(IFLA_NUM_TX_QUEUES, 1);
	number(IFLA_NUM_RX_QUEUES, 1);
}

/* The other end can't be raised by the same message: it has no peer yet. */
static void add_veth(int s, const char *name, int master, int netns, uint32_t host)
{
	struct ifinfomsg link = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP}, other = {0};
	uint8_t mac[6] = {0x02, 0x58, 0, 0, host >> 8, host};

	begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, &link, sizeof link);
	text(IFLA_IFNAME, name);
	number(IFLA_MASTER, master);
	one_queue();
	struct nlattr *info = open_nest(IFLA_LINKINFO);
	text(IFLA_INFO_KIND, "veth");
	struct nlattr *data = open_nest(IFLA_INFO_DATA), *peer = open_nest(VETH_INFO_PEER);
	memcpy(room(sizeof other), &other, sizeof other);
	text(IFLA_IFNAME, "eth0");
	attribute(IFLA_ADDRESS, mac, sizeof mac);
	number(IFLA_NET_NS_FD, netns);
	one_queue();
	close_nest(peer);
	close_nest(data);
	close_nest(info);
	end();
	must(s, "veth");
}

static void configure(int netns, uint32_t host)
{
	if (setns(netns, CLONE_NEWNET))
		fail("setns");
	int s = dial(NETLINK_ROUTE), index = index_of(s, "eth0");
	raise_link(1, 0); /* lo is the first in every namespace */
	raise_link(index, 0);
	add_address(index, host, 0);
	add_default_route(index, NLM_F_ACK);
	must(s, "the container's side");
	close(s);
}

/* nf_tables */

static void nft_begin(int type, int flags)
{
	struct nfgenmsg g = {.nfgen_family = NFPROTO_IPV4};
	if (type == NFNL_MSG_BATCH_BEGIN || type == NFNL_MSG_BATCH_END)
		g = (struct nfgenmsg){.res_id = htons(NFNL_SUBSYS_NFTABLES)};
	else
		type |= NFNL_SUBSYS_NFTABLES << 8;
	begin(type, flags, &g, sizeof g);
}

static void nft_fence(int type)
{
	nft_begin(type, 0);
	end();
}

static struct nlattr *expression_of(const char *name, struct nlattr **data)
{
	struct nlattr *e = open_nest(NFTA_LIST_ELEM);
	text(NFTA_EXPR_NAME, name);
	if (data)
		*data = open_nest(NFTA_EXPR_DATA);
	return e;
}

static void load_address(int offset, int size)
{
	struct nlattr *data, *e = expression_of("payload", &data);
	ordered(NFTA_PAYLOAD_DREG, NFT_REG_1);
	ordered(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
	ordered(NFTA_PAYLOAD_OFFSET, offset);
	ordered(NFTA_PAYLOAD_LEN, size);
	close_nest(data);
	close_nest(e);
}

static void element(int type, uint32_t host)
{
	uint32_t address = htonl(NETWORK | host);

	nft_begin(type, NLM_F_ACK | (type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0));
	text(NFTA_SET_ELEM_LIST_TABLE, TABLE);
	text(NFTA_SET_ELEM_LIST_SET, SET);
	struct nlattr *list = open_nest(NFTA_SET_ELEM_LIST_ELEMENTS), *one = open_nest(NFTA_LIST_ELEM), *key = open_nest(NFTA_SET_ELEM_KEY);
	attribute(NFTA_DATA_VALUE, &address, sizeof address);
	close_nest(key);
	close_nest(one);
	close_nest(list);
	end();
}

static void table_chain_set(void)
{
	nft_begin(NFT_MSG_NEWTABLE, NLM_F_CREATE);
	text(NFTA_TABLE_NAME, TABLE);
	end();
	nft_begin(NFT_MSG_NEWCHAIN, NLM_F_CREATE);
	text(NFTA_CHAIN_TABLE, TABLE);
	text(NFTA_CHAIN_NAME, CHAIN);
	struct nlattr *hook = open_nest(NFTA_CHAIN_HOOK);
	ordered(NFTA_HOOK_HOOKNUM, NF_INET_POST_ROUTING);
	ordered(NFTA_HOOK_PRIORITY, 100);
	close_nest(hook);
	text(NFTA_CHAIN_TYPE, "nat");
	end();
	nft_begin(NFT_MSG_NEWSET, NLM_F_CREATE);
	text(NFTA_SET_TABLE, TABLE);
	text(NFTA_SET_NAME, SET);
	ordered(NFTA_SET_KEY_TYPE, 7); /* nft's ipv4_addr */
	ordered(NFTA_SET_KEY_LEN, 4);
	ordered(NFTA_SET_ID, 1);
	end();
}

/* ip saddr @containers ip daddr != 10.88.0.0/16 masquerade */
static void rule(void)
{
	uint16_t network = htons(NETWORK >> 16);
	struct nlattr *data, *e, *value;

	nft_begin(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	text(NFTA_RULE_TABLE, TABLE);
	text(NFTA_RULE_CHAIN, CHAIN);
	struct nlattr *list = open_nest(NFTA_RULE_EXPRESSIONS);
	load_address(12, 4);
	e = expression_of("lookup", &data);
	text(NFTA_LOOKUP_SET, SET);
	ordered(NFTA_LOOKUP_SREG, NFT_REG_1);
	close_nest(data);
	close_nest(e);
	load_address(16, 2);
	e = expression_of("cmp", &data);
	ordered(NFTA_CMP_SREG, NFT_REG_1);
	ordered(NFTA_CMP_OP, NFT_CMP_NEQ);
	value = open_nest(NFTA_CMP_DATA);
	attribute(NFTA_DATA_VALUE, &network, sizeof network);
	close_nest(value);
	close_nest(data);
	close_nest(e);
	close_nest(expression_of("masq", NULL));
	close_nest(list);
	end();
}

/* A batch that fails would cost 15 ms, and so the set is asked for first. */
static void masquerade(uint32_t host)
{
	int s = dial(NETLINK_NETFILTER);
	nft_begin(NFT_MSG_GETSET, 0);
	text(NFTA_SET_TABLE, TABLE);
	text(NFTA_SET_NAME, SET);
	end();
	int missing = transact(s);
	nft_fence(NFNL_MSG_BATCH_BEGIN);
	if (missing) {
		table_chain_set();
		rule();
	}
	element(NFT_MSG_NEWSETELEM, host);
	nft_fence(NFNL_MSG_BATCH_END);
	must(s, "nf_tables");
	close(s);
}

/* Leases: lines "NUMBER ID", in the order in which they were given. */

static char leases[1 << 20];

static int open_leases(size_t *size)
{
	int dir = open(variable("FLOOR_LEASES"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || flock(dir, LOCK_EX))
		fail("directory of the leases");
	int f = openat(dir, "leases", O_RDONLY | O_CLOEXEC);
	*size = 0;
	if (f >= 0) {
		ssize_t n = read(f, leases, sizeof leases / 2);
		if (n < 0)
			fail("leases");
		*size = n;
		close(f);
	}
	leases[*size] = 0;
	return dir;
}

static void write_leases(int dir, size_t size)
{
	int f = openat(dir, "leases.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (f < 0 || write(f, leases, size) != (ssize_t)size || fdatasync(f) || renameat(dir, "leases.new", dir, "leases"))
		fail("leases");
	close(f);
	close(dir);
}

static uint32_t lease(const char *id)
{
	size_t size;
	int dir = open_leases(&size);
	uint32_t host = 2;

	if (size) {
		char *last = memrchr(leases, '\n', size - 1);
		host = strtoul(last ? last + 1 : leases, NULL, 10) + 1;
	}
	size += sprintf(leases + size, "%u %s\n", host, id);
	write_leases(dir, size);
	return host;
}

static uint32_t release(const char *id)
{
	char key[256];
	size_t size;
	int dir = open_leases(&size);

	snprintf(key, sizeof key, " %s\n", id);
	char *at = strstr(leases, key);
	if (!at) {
		close(dir);
		return 0;
	}
	char *next = at + strlen(key);
	while (at > leases && at[-1] != '\n')
		at--;
	uint32_t host = strtoul(at, NULL, 10);
	memmove(at, next, leases + size - next);
	write_leases(dir, size - (next - at));
	return host;
}

static void add(const char *id, const char *name)
{
	const char *path = variable("CNI_NETNS");
	uint32_t host = lease(id);
	int s = dial(NETLINK_ROUTE), index = bridge(s);

	forward();
	masquerade(host);
	int netns = open(path, O_RDONLY | O_CLOEXEC);
	if (netns < 0)
		fail(path);
	add_veth(s, name, index, netns, host);
	configure(netns, host);
	printf("{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":\"%s\"}],"
	       "\"ips\":[{\"address\":\"10.88.%u.%u/%d\",\"gateway\":\"10.88.0.1\",\"interface\":0}]}\n",
	       path, host >> 8, host & 255, PREFIX);
}

/* The wait of nf_tables is over before that of the link: its socket stays open. */
static void del(const char *id, const char *name)
{
	struct ifinfomsg link = {0};
	uint32_t host = release(id);

	if (host) {
		nft_fence(NFNL_MSG_BATCH_BEGIN);
		element(NFT_MSG_DELSETELEM, host);
		nft_fence(NFNL_MSG_BATCH_END);
		must(dial(NETLINK_NETFILTER), "nf_tables");
	}
	begin(RTM_DELLINK, NLM_F_ACK, &link, sizeof link);
	text(IFLA_IFNAME, name);
	end();
	if ((errno = transact(dial(NETLINK_ROUTE))) && errno != ENODEV)
		fail("veth");
}

int main(int argc, char **argv)
{
	char configuration[4096], name[IFNAMSIZ];

	if (argc == 2 && !strcmp(argv[1], "nothing"))
		return 0;
	const char *id = variable("CNI_CONTAINERID");
	if (read(0, configuration, sizeof configuration) < 0)
		fail("stdin");
	snprintf(name, sizeof name, "fl-%.12s", id);
	if (argc == 2 && !strcmp(argv[1], "ADD"))
		add(id, name);
	else if (argc == 2 && !strcmp(argv[1], "DEL"))
		del(id, name);
	else
		return 2;
	return 0;
}
