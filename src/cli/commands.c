/* The table of commands: what newcomers read in the help, and who handles what. */
#include "cli/cmd.h"

#define WITH_JSON OPTION_BIT(OPT_JSON)

// clang-format off
const struct command commands[] = {
    {
        .name = "broker",
        .synopsis = "[--listen ADDR:PORT] [--public NAME_OR_IP] [--open]",
        .summary = "run a broker, the public meeting point; prints its link",
        .about =
            "The broker introduces hosts and clients to each other and relays what they\n"
            "have encrypted where no direct path works. It needs one TCP and one UDP port\n"
            "that the internet can reach. The link it prints goes to 'postern serve'.",
        .example = "postern broker --public meet.example.org",
        .options = WITH_JSON | OPTION_BIT(OPT_LISTEN) | OPTION_BIT(OPT_PUBLIC) |
                   OPTION_BIT(OPT_OPEN) | OPTION_BIT(OPT_THREADS) |
                   OPTION_BIT(OPT_STUN_ALTERNATE) | OPTION_BIT(OPT_NO_ADDRESS_LIMITS),
        .run = cmd_broker,
    },
    {
        .name = "invite",
        .synopsis = "[--services LIST] [--expires 1h] [--uses 1]",
        .summary = "print a one-time link that lets a device enter this host",
        .about =
            "Whoever has the link may join, once, until it expires: send it over a channel\n"
            "that you trust. On a terminal its QR code is drawn as well. Run 'postern serve'\n"
            "here first.",
        .example = "postern invite --services web --expires 15m",
        .options = WITH_JSON | OPTION_BIT(OPT_SERVICES) | OPTION_BIT(OPT_EXPIRES) |
                   OPTION_BIT(OPT_USES) | OPTION_BIT(OPT_QR),
        .run = cmd_invite,
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
        .run = cmd_revoke,
    },
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
        .run = cmd_keys,
    },
    {.name = NULL},
};
// clang-format on
