/* The handlers of commands.c. */
#ifndef POSTERN_CLI_CMD_H
#define POSTERN_CLI_CMD_H

#include "cli/options.h"
#include "client/client.h"

int cmd_ping(const struct options *o, struct events *out, struct fault *f);
int cmd_status(const struct options *o, struct events *out, struct fault *f);
int cmd_netcheck(const struct options *o, struct events *out, struct fault *f);
int cmd_doctor(const struct options *o, struct events *out, struct fault *f);
int cmd_send(const struct options *o, struct events *out, struct fault *f);
int cmd_share(const struct options *o, struct events *out, struct fault *f);
int cmd_receive(const struct options *o, struct events *out, struct fault *f);
int cmd_up(const struct options *o, struct events *out, struct fault *f);
int cmd_socks(const struct options *o, struct events *out, struct fault *f);
int cmd_run(const struct options *o, struct events *out, struct fault *f);
int cmd_discover(const struct options *o, struct events *out, struct fault *f);
int cmd_service(const struct options *o, struct events *out, struct fault *f);
int cmd_setup(const struct options *o, struct events *out, struct fault *f);
int cmd_check(const struct options *o, struct events *out, struct fault *f);
int cmd_serve(const struct options *o, struct events *out, struct fault *f);
int cmd_leave(const struct options *o, struct events *out, struct fault *f);
int cmd_join(const struct options *o, struct events *out, struct fault *f);
int cmd_connect(const struct options *o, struct events *out, struct fault *f);
int cmd_open(const struct options *o, struct events *out, struct fault *f);
int cmd_ssh(const struct options *o, struct events *out, struct fault *f);
/* `nc --ssh-config`: prints, or puts into ~/.ssh, what makes a plain ssh do that. */
int cmd_ssh_config(const struct options *o, struct events *out, struct fault *f);
int cmd_nc(const struct options *o, struct events *out, struct fault *f);
int cmd_access(const struct options *o, struct events *out, struct fault *f);
int cmd_broker(const struct options *o, struct events *out, struct fault *f);
int cmd_invite(const struct options *o, struct events *out, struct fault *f);
int cmd_log(const struct options *o, struct events *out, struct fault *f);
int cmd_ls(const struct options *o, struct events *out, struct fault *f);
int cmd_revoke(const struct options *o, struct events *out, struct fault *f);
int cmd_keys(const struct options *o, struct events *out, struct fault *f);

/*
 * Stores SERVICE texts, in place of those that are published or beside them (`add`),
 * and lets the running serve read them. With none it only reads again.
 */
int cmd_serve_services(const struct statedir *state, const char *const *texts,
                       size_t count, bool add, struct events *out, struct fault *f);

/* `serve --agent-forget`: off the agent's list, and its connections end. */
int cmd_serve_forget(const struct options *o, struct events *out, struct fault *f);

/* The broker of the first host joined, else the one that `serve` uses. */
int cmd_stored_broker(const struct statedir *state, char link[static LINK_TEXT_LEN],
                      struct fault *f);

/* The device's key for who only looks: where there is none, none is made: another. */
void cmd_key_or_any(const struct statedir *state, struct keypair *key);

/* What all client commands take from their options. */
struct client_config cmd_client_config(const struct options *o, struct events *out);

#endif
