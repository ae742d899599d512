/*
 * The table of commands: what newcomers read in the help, and who handles what. A build
 * with -Dprofile has those of its role; what no row names is not linked.
 */
#include "cli/cmd.h"

#define WITH_PATHS                                                                     \
    (OPTION_BIT(OPT_PATHS) | OPTION_BIT(OPT_JIT_WINDOW) | OPTION_BIT(OPT_DIAL_OUT) |   \
     OPTION_BIT(OPT_SPOOF))
#define WITH_JSON OPTION_BIT(OPT_JSON)

// clang-format off
const struct command commands[] = {
#if POSTERN_FULL
    {
        .name = "setup",
        .synopsis = "",
        .summary = "ask what this machine is for, and set it up",
        .about =
            "A conversation on the terminal: broker here? publish what listens here? join?\n"
            "Then it runs the commands that do so, each shown, and lets systemd start them\n"
            "with the machine if you wish. Enter takes the default; Ctrl-C ends it.",
        .example = "postern setup",
        .run = cmd_setup,
        .stays = true,
    },
    {
        .name = "broker",
        .synopsis = "[--listen ADDR:PORT] [--public NAME_OR_IP] [--open] | drain",
        .summary = "run a broker, the public meeting point; prints its link",
        .about =
            "The broker introduces hosts and clients to each other and relays what they\n"
            "have encrypted where no direct path works. It needs one TCP and one UDP port\n"
            "that the internet can reach. The link it prints goes to 'postern serve'.\n"
            "The same TCP port is a web page, the portal, for people with a browser and no\n"
            "Postern, to whom hosts open services with 'postern access'.\n"
            "drain lets the broker that runs with this state make way for the next one: start\n"
            "it as soon as drain has ended. What goes through the old one may go on for a while.",
        .example = "postern broker --public meet.example.org",
        .options = WITH_JSON | OPTION_BIT(OPT_LISTEN) | OPTION_BIT(OPT_PUBLIC) |
                   OPTION_BIT(OPT_DOMAIN) | OPTION_BIT(OPT_CERTIFICATE) |
                   OPTION_BIT(OPT_KEY) | OPTION_BIT(OPT_IDLE) | OPTION_BIT(OPT_LOGIN) |
                   OPTION_BIT(OPT_NO_PORTAL) |
                   OPTION_BIT(OPT_OPEN) | OPTION_BIT(OPT_THREADS) |
                   OPTION_BIT(OPT_STUN_ALTERNATE) | OPTION_BIT(OPT_NO_ADDRESS_LIMITS) |
                   OPTION_BIT(OPT_METRICS) | OPTION_BIT(OPT_WITHIN),
        .args_max = 1,
        .verb = "drain",
        .run = cmd_broker,
        .stays = true,
    },
#endif
#if POSTERN_HOST
    {
        .name = "serve",
        .synopsis = "[--broker LINK | --via LINK] [--name HOST] [--agent] SERVICE...",
        .summary = "publish services of this machine or its network",
        .about =
            "SERVICE is a port of this machine (22), a name for one (web=8080), a UDP port\n"
            "(dns=udp:53), another machine's (cam=192.168.1.20:554), a socket that is a file\n"
            "(docker=/run/docker.sock), a range of ports (8000-8010), or several targets of\n"
            "which the first that connects is used (app=10.0.0.2:80,10.0.0.3:80). They may have\n"
            "names (app=blue@10.0.0.2:80,green@10.0.0.3:80): app/blue asks for one. Nothing\n"
            "listens on the network; only devices that joined with an invite come in.\n"
            "With --agent one host serves a whole LAN: the others hand their services to it\n"
            "with --via, and need no route to the internet; it listens for them.\n"
            "--add publishes more beside a serve that runs; SIGHUP and --reload read the services\n"
            "again, others in their place where some are named. No session ends by it.",
        .example = "postern serve --broker LINK 22 web=8080",
        .options = WITH_JSON | OPTION_BIT(OPT_BROKER) | OPTION_BIT(OPT_NAME) |
                   WITH_PATHS | OPTION_BIT(OPT_RELOAD) | OPTION_BIT(OPT_ADD) |
                   OPTION_BIT(OPT_AGENT) |
                   OPTION_BIT(OPT_AGENT_FORGET) | OPTION_BIT(OPT_VIA) |
                   OPTION_BIT(OPT_TLS) | OPTION_BIT(OPT_TLS_COMMAND) |
                   OPTION_BIT(OPT_ABSENT) | OPTION_BIT(OPT_CONFIG) |
                   OPTION_BIT(OPT_METRICS),
        .args_max = COMMAND_ARGS_ANY,
        .run = cmd_serve,
        .stays = true,
    },
    {
        .name = "check",
        .synopsis = "FILE",
        .summary = "whether a file for 'postern serve --config' is right",
        .about =
            "Reads FILE as 'postern serve --config FILE' would, and starts nothing. What is\n"
            "wrong is told with its line.",
        .example = "postern check /etc/postern/serve.conf",
        .options = WITH_JSON,
        .args_min = 1,
        .args_max = 1,
        .args_fault = "name the file",
        .arguments = {ARGUMENT_FILE},
        .run = cmd_check,
    },
#endif
#if POSTERN_FULL
    {
        .name = "run",
        .synopsis = "[--yes | --ask] [--only PORT,...] [--for NAME,...] [--loopback] -- COMMAND...",
        .summary = "run a server program, publish what it listens on",
        .about =
            "Starts any server program and publishes what it and its children listen on,\n"
            "TCP and UDP, for as long as they do: through the running 'postern serve', or\n"
            "through a host of its own that ends with the program. The service is called\n"
            "what the program is called. The exit status is the program's.",
        .example = "postern run --yes -- python3 -m http.server 8080",
        .options = WITH_JSON | OPTION_BIT(OPT_BROKER) | OPTION_BIT(OPT_NAME) |
                   WITH_PATHS | OPTION_BIT(OPT_YES) | OPTION_BIT(OPT_ASK) |
                   OPTION_BIT(OPT_ONLY) | OPTION_BIT(OPT_LOOPBACK) | OPTION_BIT(OPT_FOR),
        .args_min = 1,
        .args_max = COMMAND_ARGS_ANY,
        .args_fault = "name the program behind --, as in: postern run --yes -- nginx",
        .arguments = {ARGUMENT_PROGRAM},
        .run = cmd_run,
        .stays = true,
    },
#endif
#if POSTERN_HOST
    {
        .name = "discover",
        .synopsis = "[[NAME=]PORT...] [--ask] [--follow]",
        .summary = "list what listens on this machine, publish what you choose",
        .about =
            "TCP listeners and UDP sockets with the programs that hold them, as far as they\n"
            "can be seen: root sees all. With ports it publishes these through the running\n"
            "'postern serve', beside what it has; --ask goes through the list on the\n"
            "terminal, and with --follow through what begins to listen from now on.",
        .example = "postern discover web=8080",
        .options = WITH_JSON | OPTION_BIT(OPT_ASK) | OPTION_BIT(OPT_FOLLOW),
        .args_max = COMMAND_ARGS_ANY,
        .run = cmd_discover,
    },
#endif
#if POSTERN_CLIENT
    {
        .name = "join",
        .synopsis = "LINK | CODE@BROKER | - | @FILE",
        .summary = "accept an invite: one action, nothing to configure",
        .about =
            "The link's secret is proven to the host inside the encrypted session; the\n"
            "broker never learns it. From then on this device may use what the host\n"
            "publishes for it, under the name that the host gave itself.\n"
            "The link is taken as it was copied: with line breaks, quotes, words around it.\n"
            "A code that was said (postern invite --code) is a number and two words, and the\n"
            "broker's name: postern join 7-crossover-clockwork@meet.example.org\n"
            "Every user of this machine can read what stands on a command line: where others\n"
            "use it, give the link on standard input (-), in a file (@FILE), or in the\n"
            "environment variable POSTERN_LINK.",
        .example = "postern join postern://meet.example.org:443/i/...",
        .options = WITH_JSON | OPTION_BIT(OPT_DEVICE_NAME) | OPTION_BIT(OPT_WAIT) | WITH_PATHS,
        .args_max = COMMAND_ARGS_ANY,
        .arguments = {ARGUMENT_LINK},
        .args_fault = "give the link that 'postern invite' printed",
        .run = cmd_join,
    },
    {
        .name = "leave",
        .synopsis = "HOST",
        .summary = "forget a host that was joined",
        .about =
            "This device uses the host no more: its name and services go, and a running\n"
            "'postern up' ends what is open there. Where the host lists the device, it does so\n"
            "until 'postern revoke' there; to come back takes a new invite.",
        .example = "postern leave home",
        .options = WITH_JSON,
        .args_min = 1,
        .args_max = 1,
        .args_fault = "name the host",
        .arguments = {ARGUMENT_HOST},
        .run = cmd_leave,
    },
    {
        .name = "connect",
        .synopsis = "HOST:PORT [LOCAL] [HOST:PORT [LOCAL]]...",
        .summary = "forward a local port to a service of a host",
        .about =
            "PORT is a service's port or name; LOCAL is ADDR:PORT, PORT, or unix:PATH for a\n"
            "socket that is a file of this user's. Without it the service's own port on\n"
            "127.0.0.1 is used when it is free, else another; it is printed.",
        .example = "postern connect home:web 127.0.0.1:8080",
        .options = WITH_JSON | OPTION_BIT(OPT_WAIT) | WITH_PATHS,
        .args_min = 1,
        .args_max = COMMAND_ARGS_ANY,
        .args_fault = "name the host and the service, as in home:22",
        .arguments = {ARGUMENT_HOST_SERVICE, ARGUMENT_HOST_SERVICE},
        .run = cmd_connect,
        .stays = true,
    },
    {
        .name = "ssh",
        .synopsis = "[USER@]HOST [SSH_ARGUMENT...]",
        .summary = "log in to a host with ssh",
        .about =
            "Becomes ssh, with Postern in place of a TCP connection; what stands behind the\n"
            "host is ssh's. The host publishes port 22 ('postern serve 22'), or -p says which.\n"
            "ssh knows it as HOST.postern, as with 'postern up' or 'postern nc --ssh-config'.",
        .example = "postern ssh me@home",
        .args_min = 1,
        .args_max = COMMAND_ARGS_ANY,
        .rest = 1,
        .args_fault = "name the host, as in: postern ssh me@home",
        .arguments = {ARGUMENT_HOST},
        .run = cmd_ssh,
    },
    {
        .name = "open",
        .synopsis = "HOST[:SERVICE]",
        .summary = "a web page of a host in the browser",
        .about =
            "Forwards a local port to the service, prints its address and opens it in the\n"
            "browser (xdg-open) where there is a screen. Without SERVICE the one that looks\n"
            "like a web page is taken. It lasts until the command ends: Ctrl-C.",
        .example = "postern open home:web",
        .options = WITH_JSON | WITH_PATHS,
        .args_min = 1,
        .args_max = 1,
        .args_fault = "name the host, as in: postern open home",
        .arguments = {ARGUMENT_HOST_SERVICE},
        .run = cmd_open,
        .stays = true,
    },
    {
        .name = "nc",
        .synopsis = "HOST PORT",
        .summary = "connect stdin and stdout to a service",
        .about =
            "Made for ssh: ssh -o ProxyCommand='postern nc %h %p' user@HOST. With --ssh-config\n"
            "it prints the lines for ~/.ssh/config that make 'ssh user@HOST.postern' do so;\n"
            "--install puts them there.",
        .example = "postern nc home 22",
        .options = OPTION_BIT(OPT_JSON) | WITH_PATHS | OPTION_BIT(OPT_WAIT) |
                   OPTION_BIT(OPT_SSH_CONFIG) | OPTION_BIT(OPT_INSTALL),
        .args_max = 2,
        .arguments = {ARGUMENT_HOST, ARGUMENT_SERVICE},
        .run = cmd_nc,
    },
    {
        .name = "send",
        .synopsis = "FILE... HOST",
        .summary = "send files and directories to a host",
        .about =
            "The host runs 'postern receive', and this device may use the service 'receive'\n"
            "there. What was begun goes on where it was when the same is sent again; each\n"
            "file is compared by a checksum. Symbolic links in directories are left out.",
        .example = "postern send photo.jpg documents/ home",
        .options = WITH_JSON | OPTION_BIT(OPT_WAIT) | WITH_PATHS,
        .args_min = 2,
        .args_max = COMMAND_ARGS_ANY,
        .args_fault = "name the files, then the host, as in: postern send a.txt home",
        .arguments = {ARGUMENT_FILE, ARGUMENT_FILE_OR_HOST},
        .run = cmd_send,
    },
#endif
#if POSTERN_HOST
    {
        .name = "receive",
        .synopsis = "[DIR] [--max SIZE]",
        .summary = "take files that joined devices send, until this ends",
        .about =
            "Into DIR (default: here), through the running 'postern serve', as its service\n"
            "'receive': devices may use it as their invites allow. Nothing is overwritten:\n"
            "the second photo.jpg becomes 'photo (2).jpg'.",
        .example = "postern receive ~/Downloads",
        .options = WITH_JSON | OPTION_BIT(OPT_MAX),
        .args_max = 1,
        .arguments = {ARGUMENT_DIR},
        .run = cmd_receive,
        .stays = true,
    },
    {
        .name = "share",
        .synopsis = "DIR",
        .summary = "show a directory as a web page to joined devices, until this ends",
        .about =
            "Read-only, through the running 'postern serve', as its service 'share': devices\n"
            "may use it as their invites allow. There: 'postern open HOST:share'. Names that\n"
            "begin with a dot are left out, and symbolic links are not followed.",
        .example = "postern share ~/Pictures",
        .options = WITH_JSON,
        .args_min = 1,
        .args_max = 1,
        .args_fault = "name the directory",
        .arguments = {ARGUMENT_DIR},
        .run = cmd_share,
        .stays = true,
    },
    {
        .name = "invite",
        .synopsis = "[--services LIST] [--expires 1h] [--uses 1] [--code]",
        .summary = "print a one-time link that lets a device enter this host",
        .about =
            "Whoever has the link may join, once, until it expires: send it over a channel\n"
            "that you trust. On a terminal its QR code is drawn as well. Run 'postern serve'\n"
            "here first. --code is for two people on the phone: a number and two words, good\n"
            "for ten minutes and three tries, while this runs.",
        .example = "postern invite --services web --expires 15m",
        .options = WITH_JSON | OPTION_BIT(OPT_SERVICES) | OPTION_BIT(OPT_EXPIRES) |
                   OPTION_BIT(OPT_USES) | OPTION_BIT(OPT_QR) | OPTION_BIT(OPT_SPOKEN),
        .run = cmd_invite,
    },
    {
        .name = "access",
        .synopsis = "[add | passwd | set | remove NAME] [public | private SERVICE]",
        .summary = "accounts for people with a browser and no device, at the broker's portal",
        .about =
            "add NAME --services web,cam makes an account; passwd gives it a new password,\n"
            "set changes the rest, remove takes it away. A change ends what the account has\n"
            "open. public SERVICE opens a service to everybody by its name in TLS, private\n"
            "takes that back. Without a word the accounts and public services are listed.\n"
            "The password is asked for on the terminal, or is the first line of stdin.",
        .example = "postern access add anna --services web,cam --code",
        .options = WITH_JSON | OPTION_BIT(OPT_ACCOUNT_SERVICES) | OPTION_BIT(OPT_ACCOUNT_EXPIRES) |
                   OPTION_BIT(OPT_CODE) | OPTION_BIT(OPT_OWNER) |
                   OPTION_BIT(OPT_PASSWORD_FILE) | OPTION_BIT(OPT_QR),
        .args_max = 2,
        .arguments = {ARGUMENT_ACCESS_VERB, ARGUMENT_ACCESS_NAME},
        .run = cmd_access,
    },
#endif
#if POSTERN_CLIENT
    {
        .name = "up",
        .synopsis = "[--names WAY]",
        .summary = "stay present: warm sessions, local names and ports for every host",
        .about =
            "Keeps a session to every host joined and comes back by itself after sleep or a\n"
            "change of network. Each host gets an address 127.80.x.y, each of its services\n"
            "its own port there (port + 10000 where low ports are not permitted), and the\n"
            "name HOST.postern at the DNS server that it prints. Started as root it makes\n"
            "these names known to every program, until it ends: ssh home.postern. connect\n"
            "and nc share its sessions.",
        .example = "postern up",
        .options = WITH_JSON | WITH_PATHS | OPTION_BIT(OPT_NAMES) |
                   OPTION_BIT(OPT_CLEAN_NAMES) | OPTION_BIT(OPT_METRICS),
        .run = cmd_up,
        .stays = true,
    },
    {
        .name = "socks",
        .synopsis = "[--listen 127.0.0.1:1080]",
        .summary = "a SOCKS5 proxy for every host joined",
        .about =
            "Programs that speak SOCKS5 reach HOST or HOST.postern at any port or service\n"
            "that the host publishes, TCP and UDP. Nothing else is proxied.",
        .example = "postern socks --listen 127.0.0.1:1080",
        .options = WITH_JSON | WITH_PATHS | OPTION_BIT(OPT_SOCKS_LISTEN),
        .run = cmd_socks,
        .stays = true,
    },
    {
        .name = "ping",
        .synopsis = "HOST",
        .summary = "is the host there, over which path, and why not over another",
        .about =
            "Opens a session, sends pings inside it, and ends when enough were answered and\n"
            "every way through is in use or has come to nothing. Where it goes through the\n"
            "broker it says why; 'ping --why HOST' has the reason of each way not in use.",
        .example = "postern ping home",
        .options = WITH_JSON | WITH_PATHS | OPTION_BIT(OPT_COUNT_PINGS) |
                   OPTION_BIT(OPT_TIMEOUT) | OPTION_BIT(OPT_ALL) | OPTION_BIT(OPT_WHY),
        .args_max = 1,
        .arguments = {ARGUMENT_HOST},
        .run = cmd_ping,
    },
#endif
    {
        .name = "status",
        .synopsis = "[--why HOST] [--check]",
        .summary = "what the running serve and up are doing",
        .about =
            "Brokers, and a line for each session with the path that it takes. --why tells of\n"
            "one why other paths are not taken; --check makes the exit status tell health.",
        .example = "postern status --why home",
        .options = WITH_JSON | OPTION_BIT(OPT_WHY) | OPTION_BIT(OPT_CHECK),
        .run = cmd_status,
    },
    {
        .name = "netcheck",
        .synopsis = "[--deep] [--broker LINK]",
        .summary = "what this network's NAT and firewall let through",
        .about =
            "Asks the broker how this network's NAT maps and filters (RFC 5780), whether UDP\n"
            "and IPv6 get through, from which addresses of this machine, how large a packet may\n"
            "be, and how far the broker is; and says in a line what that means for direct paths.",
        .example = "postern netcheck",
        .options = WITH_JSON | OPTION_BIT(OPT_BROKER) | OPTION_BIT(OPT_DEEP),
        .run = cmd_netcheck,
    },
    {
        .name = "doctor",
        .synopsis = "[--report FILE] [--broker LINK]",
        .summary = "look for what is wrong here, with a cure for each",
        .about =
            "Runs every check there is, a line each: state directory, disk, limits, helper,\n"
            "network, the running serve and up, resolver, broker, UDP, certificate, clock.\n"
            "It takes 10 s at most, works without state, network and broker, and changes\n"
            "nothing. The exit status is 0 when nothing is bad. --report writes what was\n"
            "found to a new file for a bug report.",
        .example = "postern doctor --report report.txt",
        .options = WITH_JSON | OPTION_BIT(OPT_BROKER) | OPTION_BIT(OPT_REPORT),
        .run = cmd_doctor,
    },
    {
        .name = "ls",
        .synopsis = "[--devices]",
        .summary = "list the hosts joined and their services",
        .about =
            "With --devices it lists the devices that may enter this host instead.",
        .example = "postern ls",
        .options = WITH_JSON | OPTION_BIT(OPT_DEVICES),
        .run = cmd_ls,
    },
    {
        .name = "log",
        .synopsis = "[--count N] [--since TIME] [--who NAME] [--follow]",
        .summary = "the audit log: who joined, connected, came through the portal, was removed",
        .about =
            "The newest entries of this state directory's log, the newest last: invites, who\n"
            "joined or was removed, accounts, and each connection of devices and of the\n"
            "portal: to which service, from where, how long, how much. Of the newest\n"
            "100,000 entries it keeps all but connections: of these the newest 10,000.",
        .example = "postern log --since 1h --who annas-laptop",
        .options = WITH_JSON | OPTION_BIT(OPT_COUNT_LOG) | OPTION_BIT(OPT_SINCE) |
                   OPTION_BIT(OPT_WHO) | OPTION_BIT(OPT_FOLLOW_LOG),
        .run = cmd_log,
    },
#if POSTERN_HOST
    {
        .name = "revoke",
        .synopsis = "DEVICE",
        .summary = "take a device off this host's list and end its sessions",
        .about =
            "DEVICE is its name, or the first characters of its key (at least four), as\n"
            "'postern ls --devices' shows them. A new invite lets it in again, an older\n"
            "one does not.",
        .example = "postern revoke annas-laptop",
        .options = WITH_JSON,
        .args_min = 1,
        .args_max = 1,
        .args_fault = "name the device",
        .arguments = {ARGUMENT_DEVICE},
        .run = cmd_revoke,
    },
#endif
    {
        .name = "keys",
        .synopsis = "[show | rotate]",
        .summary = "show this device's key, or replace it by a new one",
        .about =
            "After 'rotate' the others follow by themselves: they are shown the new key,\n"
            "signed by the old one, when they next meet this device.",
        .example = "postern keys rotate",
        .options = WITH_JSON,
        .args_max = 1,
        .arguments = {ARGUMENT_KEYS_VERB},
        .run = cmd_keys,
    },
    {
        .name = "service",
        .synopsis = "install | remove | status [serve | up | broker [OPTION...]]",
        .summary = "let systemd run what was started by hand",
        .about =
            "install makes a unit with this state directory, enables and starts it: the same\n"
            "host, key and settings as by hand, also after a restart of the machine. What\n"
            "runs by hand now is ended first. Root's is a unit of the system, another user's\n"
            "one of his own, which lingers. Without a role it is what runs by hand, or was\n"
            "started here before. OPTIONs are that command's; serve remembers most of its own.",
        .example = "postern service install serve",
        .options = WITH_JSON,
        .args_min = 1,
        .args_max = COMMAND_ARGS_ANY,
        .rest = 2,
        .args_fault = "use install, remove or status",
        .arguments = {ARGUMENT_SERVICE_VERB, ARGUMENT_ROLE},
        .run = cmd_service,
    },
    {.name = NULL},
};
// clang-format on
