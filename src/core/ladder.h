/*
 * The ladder: which path kinds are being tried, which path carries the session, and
 * why each other kind does not. Knows kinds, round trips and time as numbers; knows no
 * packet, no socket and nothing of how a kind works.
 *
 * Callers report with ladder_on_*; then they pull actions with ladder_next until it
 * says false, after every report and at ladder_deadline_us.
 *
 * Policy. All allowed kinds start side by side, each after its path_kind_delay_us. A
 * direct path is selected before a relayed one; between direct paths the round trip
 * decides: the least of the last LADDER_SAMPLES, since what waits in a queue for a
 * moment says nothing of the way. A selected path gives way only to one at least 20 %
 * and 2 ms better, and only when both were measured LADDER_SAMPLES_MIN times; where
 * answers come late (ladder_set_late) by no less than that, since a full queue makes
 * each of them another number. A path known to be held to less than LADDER_NARROW_BIT_S
 * (by a window that does not scale) is used only where no other stands, a relay
 * neither, and direct kinds are still tried. When a direct path was outdone in a trial
 * (core/trial.h), so are all direct ones but those whose own trial went well. A relay
 * stays as standby. A lost path is replaced at once by the best other proven one.
 * Direct kinds that failed are tried again while no direct path stands, after 2 s, 4 s,
 * ... 5 min (each up to a quarter longer), and at once when the network changes; a
 * relay after 0.2 s
 * ... 5 s. While no path at all stands a direct kind waits no longer than a relay does:
 * nothing goes on without it, and what it may send is bounded by core/budget.h. Direct
 * kinds still trying 3 s after a direct path was selected are stopped.
 */
#ifndef POSTERN_CORE_LADDER_H
#define POSTERN_CORE_LADDER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/kinds.h"

#define LADDER_MAX_PATHS 16
#define LADDER_NO_PATH 0 /* path ids are the caller's, never 0 */
#define LADDER_REASON_LEN 480
#define LADDER_RETRY_MIN_US 2000000
#define LADDER_RETRY_MAX_US 300000000
#define LADDER_RELAY_RETRY_MIN_US 200000
#define LADDER_RELAY_RETRY_MAX_US 5000000
#define LADDER_PEER_CHANGE_US 1000000
#define LADDER_BARE_RETRY_MAX_US 5000000 /* of a direct kind, while no path stands */
#define LADDER_SETTLE_US 3000000
#define LADDER_STABLE_US 10000000 /* a path lost sooner counts as a failed try */
#define LADDER_SAMPLES 4
#define LADDER_SAMPLES_MIN 3
/* One window of 64 KiB in 5.2 ms; a path once narrow is so up to half as much more. */
#define LADDER_NARROW_BIT_S 100000000

enum ladder_rung_state {
    RUNG_OFF,      /* refused: `reason` says why */
    RUNG_WAITING,  /* starts at `at_us`; a direct kind not while a direct path stands */
    RUNG_STARTING, /* START was given */
    RUNG_TRYING,   /* the caller said it runs */
    RUNG_UP,       /* has at least one proven path */
    RUNG_STATE_COUNT,
};

enum ladder_action_type {
    /* Begin this kind; when it runs already, begin it anew (its proven paths stay
     * until the caller reports them lost). Answer with ladder_on_started or _failed. */
    LADDER_START,
    /* End this kind and forget its paths; no report is expected. */
    LADDER_STOP,
    /* Move the session to `path_id`; LADDER_NO_PATH with PATH_KIND_NONE when no path
     * is left (keep the session, a path may come back). */
    LADDER_SELECT,
};

struct ladder_action {
    enum ladder_action_type type;
    enum path_kind kind;
    uint32_t path_id; /* SELECT only */
};

struct ladder_path {
    uint32_t id; /* LADDER_NO_PATH: free slot */
    enum path_kind kind;
    uint32_t rtt_us; /* the least of the samples; 0: not known */
    uint32_t samples[LADDER_SAMPLES];
    unsigned sample_count; /* all there ever were */
    uint32_t window_bytes; /* at most so many are under way; 0: no such bound */
    bool narrow;           /* that window and round trip hold it down too far */
    uint64_t proven_us;
};

struct ladder_rung {
    enum ladder_rung_state state;
    bool allowed; /* by this side */
    bool start_again, stop;
    unsigned failures;
    uint64_t at_us, since_us;
    uint64_t bare_us; /* of a pause: it ends then, if no path stands; else as at_us */
    /* In a trial it carried so much, and another kind so much more; 0: was in none. */
    uint64_t carried_bit_s, rival_bit_s;
    enum path_kind rival;
    bool cleared; /* its trial went well */
    char reason[LADDER_REASON_LEN - 80];
};

struct ladder {
    struct ladder_rung rungs[PATH_KIND_COUNT];
    struct ladder_path paths[LADDER_MAX_PATHS];
    bool outdone;      /* a direct kind was */
    uint32_t selected; /* path id last given by SELECT */
    uint64_t selected_us;
    uint64_t peer_change_us; /* when the last was heeded, or 0 */
    uint64_t late_us;
    uint64_t rng;
};

/* `allowed_mask` has bit (1 << kind); the others are refused as "not allowed". */
void ladder_init(struct ladder *l, uint32_t allowed_mask, uint64_t seed,
                 uint64_t now_us);

/* How late answers are on this device's line (core/lateness.h); 0: none is. */
void ladder_set_late(struct ladder *l, uint64_t late_us);
/* It worked in this network before: it waits for no cheaper one. NONE is fine. */
void ladder_prefer(struct ladder *l, enum path_kind kind);

/* This kind cannot work here (ever, or until ladder_permit): "reason" in words. */
void ladder_refuse(struct ladder *l, enum path_kind kind, const char *reason);
/* Takes a refusal back; the kind starts at once. No effect on one not refused. */
void ladder_permit(struct ladder *l, enum path_kind kind, uint64_t now_us);

void ladder_on_started(struct ladder *l, enum path_kind kind, uint64_t now_us);
/*
 * A path of `kind` works both ways, in `rtt_us` (0: not known), which is its first
 * sample, or one more of a known id. A kind may prove
 * paths in any state but refused (the peer's try can succeed after ours ended). When
 * LADDER_MAX_PATHS are known the slowest one not selected is forgotten.
 */
void ladder_on_proven(struct ladder *l, enum path_kind kind, uint32_t path_id,
                      uint32_t rtt_us, uint64_t now_us);
/*
 * The try ended without a path. Of no effect on a kind that has a proven path (after a
 * network change its old path may live on): those end with ladder_on_lost only.
 */
void ladder_on_failed(struct ladder *l, enum path_kind kind, const char *reason,
                      uint64_t now_us);
/* The same, for want of what there will be after `wait_us`: it is tried again then, or
 * up to a quarter later. */
void ladder_on_busy(struct ladder *l, enum path_kind kind, const char *reason,
                    uint64_t wait_us, uint64_t now_us);
/* One path is dead. Unknown ids are ignored. */
void ladder_on_lost(struct ladder *l, uint32_t path_id, const char *reason,
                    uint64_t now_us);
/* One more sample of its round trip; callers take them at least some 100 ms apart. */
void ladder_on_rtt(struct ladder *l, uint32_t path_id, uint32_t rtt_us);
/* The path never has more than so many bytes under way, whatever the session does. */
void ladder_on_window(struct ladder *l, uint32_t path_id, uint32_t window_bytes);
/*
 * The other path that a trial should compare the selected one with, of no kind in the
 * mask `skip`: to a direct path a relay first, since what holds one direct path down
 * holds down most; to a relay a direct path that was not outdone itself.
 */
uint32_t ladder_rival(const struct ladder *l, uint32_t skip);
/* `kind` carries `own_bit_s`, and `rival` so much more that it is left for that one. */
void ladder_on_outdone(struct ladder *l, enum path_kind kind, uint64_t own_bit_s,
                       enum path_kind rival, uint64_t rival_bit_s);
/* `kind` carries as much as the relay: it is preferred again. */
void ladder_on_cleared(struct ladder *l, enum path_kind kind);
/* All that trials have shown is forgotten. */
void ladder_forgive(struct ladder *l);
/*
 * Addresses or routes changed: every direct kind begins anew at once, a relay too
 * unless it is up; pauses are forgotten.
 */
void ladder_on_network_change(struct ladder *l, uint64_t now_us);

/*
 * The peer is heard again after a silence: what failed meanwhile failed for that, and
 * its pauses are forgotten.
 */
void ladder_on_heard(struct ladder *l, uint64_t now_us);
/*
 * The peer's addresses changed: what stands may lead to where it is no more, and what
 * failed may work now. Kinds that meet in rounds begin another one at once, also beside
 * a path of theirs that stands; those that check all the time see it by themselves. At
 * most once in LADDER_PEER_CHANGE_US, whatever the peer says.
 */
void ladder_on_peer_change(struct ladder *l, uint64_t now_us);

/* A direct kind that has a path begins anew beside it. */
void ladder_again(struct ladder *l, enum path_kind kind);

bool ladder_next(struct ladder *l, uint64_t now_us, struct ladder_action *out);
/* When to pull again; UINT64_MAX when only a report can change anything. */
uint64_t ladder_deadline_us(const struct ladder *l);

/* The selected path's kind and id; PATH_KIND_NONE and LADDER_NO_PATH when none. */
enum path_kind ladder_selected_kind(const struct ladder *l);
uint32_t ladder_selected_path(const struct ladder *l);
enum ladder_rung_state ladder_rung_state(const struct ladder *l, enum path_kind kind);

/* `kind` came to nothing, for now or for good, or is not needed; ladder_reason says
 * why. */
bool ladder_kind_ended(const struct ladder *l, enum path_kind kind);
/* `kind` was ruled out, or its latest try failed and none after it has worked yet. */
bool ladder_kind_failed(const struct ladder *l, enum path_kind kind);
/*
 * The direct kind whose reason tells most, while none carries the session: the first
 * that was tried in vain, else the first that the other side rules out. NONE: nothing
 * is known yet, or this side allows no direct kind.
 */
enum path_kind ladder_telling_kind(const struct ladder *l);
/* As ladder_reason, once nothing will be tried any more. */
const char *ladder_closing_reason(const struct ladder *l, enum path_kind kind,
                                  uint64_t now_us, char buf[static LADDER_REASON_LEN]);
/* Why it last failed, also while it is tried once more. */
const char *ladder_last_reason(const struct ladder *l, enum path_kind kind);

/*
 * Why `kind` does not carry the session (or that it does): never empty, one line. Two
 * calls with the same `now_us` and no report between give the same words.
 */
const char *ladder_reason(const struct ladder *l, enum path_kind kind, uint64_t now_us,
                          char buf[static LADDER_REASON_LEN]);

/* Why the selected path is used and not one of a kind that was outdone; else empty. */
const char *ladder_preference(const struct ladder *l,
                              char buf[static LADDER_REASON_LEN]);

#endif
