/* What `postern doctor` asks of this machine alone; it changes and makes nothing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include <gnutls/gnutls.h>

#include "cli/daemon.h"
#include "cli/doctor.h"
#include "client/book.h"
#include "client/naming.h"
#include "core/span.h"
#include "io/audit.h"
#include "io/helper.h"
#include "io/lack.h"
#include "io/netmon.h"
#include "io/own_file.h"
#include "session/gcm.h"

enum {
    SKEW_BAD_S = 300,
    SKEW_WARN_S = 30,
    SKEW_TOLD_S = 5,
    DISK_BAD_MIB = 4,
    DISK_WARN_MIB = 64
};

/* A file of the directory that cannot be used; the databases say why themselves. */
static int try_files(const struct statedir *s, struct fault *f)
{
    struct book *b = NULL;
    struct roster *r = NULL;
    struct access *a = NULL;
    struct audit *log = NULL;
    struct keypair key;
    int err = statedir_has(s->path, "device.db") || statedir_has(s->path, "host.db") ||
                      statedir_has(s->path, "book.db")
                  ? statedir_key(s, &key, f)
                  : 0;
    if (err == 0 && statedir_has(s->path, "book.db"))
        err = book_open(&b, s, f);
    if (err == 0 && statedir_has(s->path, "host.db"))
        err = daemon_open_roster(&r, s, f);
    if (err == 0 && statedir_has(s->path, "access.db"))
        err = daemon_open_access(&a, s, f);
    if (err == 0 && statedir_has(s->path, "audit.db"))
        err = audit_open(&log, s->path, f);
    audit_close(log);
    access_close(a);
    roster_close(r);
    book_close(b);
    return err;
}

/* What is there may be looked at by more than may write there; a disk that nobody
 * writes to is told of by itself. */
static bool is_writable(const struct statedir *s, struct fault *f)
{
    static const char *const names[] = {"",          "device.db", "host.db",
                                        "access.db", "audit.db",  "book.db"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[STATEDIR_PATH_LEN + 16];
        (void)snprintf(path, sizeof(path), "%s/%s", s->path, names[i]);
        if (access(path, W_OK) == 0 || errno != EACCES)
            continue;
        if (own_file_of_another(path, f) == 0)
            (void)fault_set(f, POSTERN_ERR_PERM,
                            s->owner == geteuid() ? "chmod -R u+rwX on it"
                                                  : "run this as the user whose it is",
                            "this user may not write in %.200s", s->path);
        return false;
    }
    return true;
}

static void check_state(struct doctor *d)
{
    struct fault f = {0};
    struct stat st;
    if (!d->has_state && statedir_check_place(d->option, &f) == 0) {
        doctor_say(d, "state", DOCTOR_OK, "", "none yet: %s",
                   "nothing was served or joined here");
        return;
    }
    if (!d->has_state) {
        doctor_say(d, "state", DOCTOR_BAD, f.advice, "%s", f.what);
        return;
    }
    int err = stat(d->state.path, &st) == 0
                  ? statedir_open(&d->state, d->state.path, &f)
                  : fault_set(&f, POSTERN_ERR_IO, "choose another with --state",
                              "%.200s: %s", d->state.path, strerror(errno));
    if (err == 0)
        err = try_files(&d->state, &f);
    if (err != 0)
        doctor_say(d, "state", DOCTOR_BAD, f.advice, "%s", f.what);
    else if (!is_writable(&d->state, &f))
        doctor_say(d, "state", DOCTOR_BAD, f.advice, "%s", f.what);
    else if ((st.st_mode & 07077) != 0)
        doctor_say(d, "state", DOCTOR_WARNING, "chmod 700 on it",
                   "others may look into %.200s (mode %o)", d->state.path,
                   (unsigned)st.st_mode & 07777u);
    else
        doctor_say(d, "state", DOCTOR_OK, "", "%.200s, whole and private",
                   d->state.path);
}

static void check_disk(struct doctor *d)
{
    struct statvfs v;
    const char *path = d->has_state ? d->state.path : "/var/lib";
    if (statvfs(path, &v) != 0) {
        doctor_say(d, "disk", DOCTOR_SKIPPED, "", "%.200s cannot be asked: %s", path,
                   strerror(errno));
        return;
    }
    unsigned long long mib =
        (unsigned long long)v.f_bavail * v.f_frsize / (1024ull * 1024);
    if ((v.f_flag & ST_RDONLY) != 0 && d->has_state)
        doctor_say(d, "disk", DOCTOR_BAD, "mount it for writing, or choose --state",
                   "the disk of the state directory is read-only");
    else if (mib < DISK_BAD_MIB || (v.f_files != 0 && v.f_favail == 0))
        doctor_say(d, "disk", DOCTOR_BAD, "free some space there",
                   "the disk is full: %llu MiB are left", mib);
    else
        doctor_say(d, "disk", mib < DISK_WARN_MIB ? DOCTOR_WARNING : DOCTOR_OK,
                   mib < DISK_WARN_MIB ? "free some space there" : "",
                   "%llu MiB are free", mib);
}

static void check_files(struct doctor *d)
{
    enum { WANTED = 64, COMFORTABLE = 512 };
    size_t n = descriptors_max();
    if (n < WANTED)
        doctor_say(d, "limits", DOCTOR_BAD, "allow more (ulimit -n)",
                   "only %zu files may be open at once", n);
    else
        doctor_say(d, "limits", n < COMFORTABLE ? DOCTOR_WARNING : DOCTOR_OK,
                   n < COMFORTABLE ? "allow more (ulimit -n)" : "",
                   "%zu files may be open at once", n);
}

static void check_helper(struct doctor *d)
{
    struct loop *loop;
    if (loop_open(&loop) != 0)
        return;
    helper_open(loop);
    if (helper_can(PRIVILEGE_CAN_FILTER | PRIVILEGE_CAN_RAW))
        doctor_say(d, "helper", DOCTOR_OK, "",
                   "the privileged helper can do all it is for");
    else
        doctor_say(d, "helper", DOCTOR_WARNING, "",
                   "not usable, so some path kinds are not: %s", helper_missing());
    helper_close();
    loop_run(loop);
    loop_close(loop);
}

/* Either is right: it says how much of the processor a session will take. */
static void check_encryption(struct doctor *d)
{
    struct gcm_engine *e = gcm_engine_new();
    if (e != NULL)
        doctor_say(d, "encryption", DOCTOR_OK, "", "sessions' packets by %s",
                   gcm_engine_name(e));
    else
        doctor_say(d, "encryption", DOCTOR_OK, "", "sessions' packets by GnuTLS %s: %s",
                   gnutls_check_version(NULL), gcm_engine_lack());
    gcm_engine_free(e);
}

static void check_network(struct doctor *d)
{
    struct addr own[16];
    size_t n = netmon_addresses(own, 16, false);
    char dark[NETMON_NAME_LEN];
    bool v4 = false, v6 = false;
    for (size_t i = 0; i < n; i++) {
        v4 = v4 || own[i].family == ADDR_V4;
        v6 = v6 || own[i].family == ADDR_V6;
    }
    d->offline = n == 0;
    if (n == 0 && netmon_dark(dark))
        doctor_say(d, "network", DOCTOR_BAD, "plug it in, or join a wireless network",
                   "no cable or signal on %s", dark);
    else if (n == 0)
        doctor_say(d, "network", DOCTOR_BAD, "plug it in, or switch the network on",
                   "this machine has no address in any network");
    else if (!netmon_leads_out())
        doctor_say(d, "network", DOCTOR_WARNING,
                   "connect it again, or look for its default route (ip route)",
                   "this machine has an address, and no route beyond its own network");
    else
        doctor_say(d, "network", DOCTOR_OK, "", "%zu address(es): %s", n,
                   v4 && v6 ? "IPv4 and IPv6"
                   : v4     ? "IPv4"
                            : "IPv6");
}

/* While they stand there, the names lead to addresses at which nobody listens. */
static void check_names(struct doctor *d)
{
    char owner[STATEDIR_PATH_LEN];
    if (naming_left(owner))
        doctor_say(d, "names", DOCTOR_BAD, "run 'sudo postern up --clean-names'",
                   "/etc/hosts has names of a 'postern up' with %.200s, which was "
                   "killed and does not run any more",
                   owner);
}

void doctor_machine(struct doctor *d)
{
    check_state(d);
    check_disk(d);
    check_files(d);
    check_helper(d);
    check_encryption(d);
    check_network(d);
    check_names(d);
}

void doctor_clock(struct doctor *d)
{
    static const char cure[] =
        "set it right (timedatectl set-ntp true): links and logins go by it";
    static const char apart[] =
        "look which, and set it right (timedatectl set-ntp true): links and logins go "
        "by it";
    struct timex t = {0};
    struct json_value v;
    char text[32] = "", span[SPAN_LEN], words[SPAN_CLOCKS_LEN];
    if (d->netcheck[0] != '\0' && json_find(&v, d->netcheck, "clock_skew_s") == 0)
        json_value_words(&v, text, sizeof(text));
    long long skew = text[0] != '\0' ? strtoll(text, NULL, 10) : 0;
    unsigned long long off =
        skew < 0 ? 0 - (unsigned long long)skew : (unsigned long long)skew;
    if (statedir_now_s() < 1700000000)
        doctor_say(d, "clock", DOCTOR_BAD, cure, "it stands years in the past");
    else if (text[0] != '\0' && off >= SKEW_WARN_S)
        doctor_say(d, "clock", off >= SKEW_BAD_S ? DOCTOR_BAD : DOCTOR_WARNING, apart,
                   "%s", span_clocks(skew, words));
    else if (text[0] != '\0' && off < SKEW_TOLD_S) /* what the way there may take */
        doctor_say(d, "clock", DOCTOR_OK, "", "goes with the broker's");
    else if (text[0] != '\0')
        doctor_say(d, "clock", DOCTOR_OK, "", "%s %s the broker's",
                   span_apart(skew, span), skew > 0 ? "behind" : "ahead of");
    else if (adjtimex(&t) == TIME_ERROR || (t.status & STA_UNSYNC) != 0)
        doctor_say(d, "clock", DOCTOR_WARNING, cure,
                   "nothing keeps this machine's clock right, as far as it can be "
                   "seen");
    else
        doctor_say(d, "clock", DOCTOR_OK, "", "kept right by this machine");
}
