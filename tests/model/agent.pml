/* The agent/server protocol of docs/formats/fs_agent.md, small: two agents with three operations
 * each, two crashes of anybody at any step, and a network that loses, duplicates and reorders.
 *
 * The network is the set of all messages ever sent: one may be received at any later time, again and
 * again, or never. Operation 2 of each agent writes the one shared object X, the others something of
 * the agent's own. A cached copy of X is the set of operations it contains (bit 0: agent 0's, bit 1:
 * agent 1's). Time is abstract: the server may count on an agent's lease having ended only when it
 * has ended at the agent, which is what the margin between the two clocks buys.
 *
 * What is checked: see loss(), order() and the assertions. Faults to be found are seeded with
 * -DFAULT=n; agent_model.py has the list.
 */
#ifndef FAULT
#define FAULT 0
#endif
#define AGENTS 2
/* CACHE 0: three operations. CACHE 1: two, and a read of X that may be cached. */
#ifndef CACHE
#define CACHE 0
#endif
#if CACHE
#define OPS 2
#define SHARED 1
#else
#define OPS 3
#define SHARED 2
#endif
#ifndef CRASHES
#define CRASHES 2
#endif
#define LIVES 3 /* of the server: one more than crashes */
#define NONE 3  /* no life */

#define BIT(n) (1 << (n))
#define HAS(set, n) (((set) >> (n)) & 1)

/* --- the network: sets over server lives; [agent * 4 + operation] --- */
byte op_net[8];     /* new operations */
byte replay_net[8]; /* the same, sent again in a later life */
byte ack_net[8];
byte told[AGENTS]; /* "durable up to k", the highest sent; true in any life, so any less is true too */
short welcome_net[AGENTS]; /* bit 4 life + mark */
byte replayed_net[AGENTS];
byte read_net[AGENTS];
short reply_net[6]; /* [agent * 3 + life]: bit 4 serial + value */
byte recall_net[6]; /* [agent * 3 + life]: bit serial */
byte recalled_net[6];

/* --- the server --- */
bool up = 1;
byte life = 0;
byte applied[AGENTS]; /* in memory */
byte on_disk[AGENTS];
byte x_memory; /* operations in X in their order: 0 none, 1 or 2 one agent's, 3: 0 then 1, 4: 1 then 0 */
byte x_disk;
byte x_writer; /* 1 + the agent whose change of X is not on disk */
bool replay_ended[AGENTS];
bool grace;
bool holder[AGENTS]; /* may have X in its cache */
byte lock;           /* 1 + the agent whose write of X waits for recalls */
byte serial;

/* --- the agents --- */
bool alive[AGENTS] = 1;
byte sent[AGENTS];
byte acked[AGENTS];
byte durable[AGENTS];
byte its_life[AGENTS];
byte replaying[AGENTS]; /* next operation to replay; 0: not replaying */
bool cached[AGENTS];
byte copy[AGENTS];
bool reading[AGENTS];
bool has_read[AGENTS];
byte recalled[AGENTS];

byte crashes;
bool doubly[AGENTS]; /* both copies of an acknowledged operation of it are gone: a second failure */
bool first[AGENTS];  /* its write of X was acknowledged before the other's was submitted */

#define VALUE(x) ((x) > 2 -> 3 : (x))
#define WITH(x, a) ((x) == 0 -> 1 + (a) : ((x) == 1 + (a) || (x) > 2 -> (x) : 3 + ((x) - 1)))
#define ALL_ACKED_IN_X ((acked[0] >= SHARED && !doubly[0] -> 1 : 0) | (acked[1] >= SHARED && !doubly[1] -> 2 : 0))

/* The log of an agent holds what it may have to send again. */
#if FAULT == 2
#define IN_LOG(a, s) (alive[a] && (s) > acked[a])
#else
#define IN_LOG(a, s) (alive[a] && (s) > durable[a])
#endif

/* An acknowledged operation is on disk, or in the server's memory, or in its agent's log. */
inline loss(a) {
    assert(acked[a] <= on_disk[a] || (up && acked[a] <= applied[a]) ||
           ((up && IN_LOG(a, applied[a] + 1)) || (!up && IN_LOG(a, on_disk[a] + 1))) || doubly[a]);
}

/* What was acknowledged before another operation began comes before it, wherever both are. */
inline order(x) {
    assert(!(first[0] && !doubly[0] && (x == 2 || x == 4)));
    assert(!(first[1] && !doubly[1] && (x == 1 || x == 3)));
}

/* A message may be received any time after it was sent, so it is sent as soon as it may be. */
inline tell_durable(k0, k1) {
    told[0] = (k0 > told[0] -> k0 : told[0]);
    told[1] = (k1 > told[1] -> k1 : told[1])
}

inline flush() {
    on_disk[0] = applied[0];
    on_disk[1] = applied[1];
    x_disk = x_memory;
    x_writer = 0;
    tell_durable(on_disk[0], on_disk[1]);
    order(x_disk)
}

/* A server that is down differs in nothing from one that is up and slow, so it starts at once; and
 * as greetings may come at any time, so do its welcomes. */
inline server_starts() {
    up = 1;
    life++;
#if FAULT != 1
    applied[0] = on_disk[0];
    applied[1] = on_disk[1];
#endif
    x_memory = x_disk;
#if FAULT != 6
    grace = 1;
#endif
    welcome_net[0] = welcome_net[0] | BIT(4 * life + applied[0]);
    welcome_net[1] = welcome_net[1] | BIT(4 * life + applied[1])
}

inline server_crashes() {
    crashes++;
    up = 0;
    doubly[0] = doubly[0] || (!alive[0] && applied[0] > on_disk[0]);
    doubly[1] = doubly[1] || (!alive[1] && applied[1] > on_disk[1]);
    applied[0] = 0;
    applied[1] = 0;
    x_memory = 0;
    x_writer = 0;
    replay_ended[0] = 0;
    replay_ended[1] = 0;
    holder[0] = 0;
    holder[1] = 0;
    lock = 0;
    serial = 0;
    loss(0);
    loss(1);
#if FAULT != 4
    op_net[1] = 0; op_net[2] = 0; op_net[3] = 0; op_net[5] = 0; op_net[6] = 0; op_net[7] = 0;
    replay_net[1] = 0; replay_net[2] = 0; replay_net[3] = 0;
    replay_net[5] = 0; replay_net[6] = 0; replay_net[7] = 0;
#endif
    server_starts()
}

byte next; /* 0 but within a step */

inline apply(a) {
    next = applied[a] + 1;
    assert(next > on_disk[a]); /* never twice */
    applied[a] = next;
    if
    :: next == SHARED ->
        assert(VALUE(x_memory) != 3 && x_memory != 1 + a);
        x_memory = WITH(x_memory, a);
        x_writer = 1 + a;
        order(x_memory);
        lock = 0
    :: else
    fi;
#if FAULT == 3
    tell_durable(applied[0], applied[1]);
#endif
    ack_net[a * 4 + next] = ack_net[a * 4 + next] | BIT(life);
    next = 0
}

/* Whether a message of the agent's session in life l is for this server. */
#if FAULT == 4
#define MINE(set) ((set) != 0)
#else
#define MINE(set) HAS(set, life)
#endif
#if FAULT == 5
#define OTHERS_UNDURABLE(a) 0
#else
#define OTHERS_UNDURABLE(a) (x_writer != 0 && x_writer != 1 + (a))
#endif
#if FAULT == 7
#define HELD_BY_OTHER(a) 0
#else
#define HELD_BY_OTHER(a) (holder[1 - (a)])
#endif

inline lock_x(a) {
    lock = 1 + a;
    if
    :: holder[1 - a] -> serial++; recall_net[(1 - a) * 3 + life] = recall_net[(1 - a) * 3 + life] | BIT(serial)
    :: else
    fi
}

/* The next operation of agent a: a replayed one before its agent has ended its replay, a new one
 * after that, and after grace. A message says which it is: a new one may overtake the end. */
#if FAULT == 10
#define REPLAYED(a) (applied[a] < OPS && !replay_ended[a] && \
                     (MINE(replay_net[(a) * 4 + applied[a] + 1]) || MINE(op_net[(a) * 4 + applied[a] + 1])))
#else
#define REPLAYED(a) (applied[a] < OPS && !replay_ended[a] && \
                     MINE(replay_net[(a) * 4 + applied[a] + 1]))
#endif
#define NEW(a) (applied[a] < OPS && replay_ended[a] && !grace && \
                MINE(op_net[(a) * 4 + applied[a] + 1]))

#define SERVE(a) \
    :: d_step { up && !replay_ended[a] && HAS(replayed_net[a], life) -> \
        replay_ended[a] = 1 } \
    :: d_step { up && (REPLAYED(a) || (NEW(a) && applied[a] + 1 != SHARED)) -> apply(a) } \
    :: d_step { up && NEW(a) && applied[a] + 1 == SHARED && lock == 0 && !OTHERS_UNDURABLE(a) -> \
        lock_x(a) } \
    :: d_step { up && NEW(a) && applied[a] + 1 == SHARED && lock == 1 + a && !HELD_BY_OTHER(a) -> \
        apply(a) } \
    /* reading X, to be cached */ \
    :: d_step { up && replay_ended[a] && !grace && lock == 0 && HAS(read_net[a], life) && \
        !HAS(reply_net[a * 3 + life], 4 * serial + VALUE(x_memory)) && !OTHERS_UNDURABLE(a) -> \
        holder[a] = 1; \
        reply_net[a * 3 + life] = reply_net[a * 3 + life] | BIT(4 * serial + VALUE(x_memory)) } \
    /* recalled; or its lease has ended, and at the agent before */ \
    :: d_step { up && lock == 1 + (1 - a) && holder[a] && \
        (HAS(recalled_net[a * 3 + life], serial) || !alive[a] || (!cached[a] && !reading[a])) -> \
        holder[a] = 0 }

proctype Server() {
end:
    do
    :: d_step { crashes < CRASHES && up -> server_crashes() }
    :: d_step { up && (applied[0] > on_disk[0] || applied[1] > on_disk[1]) -> flush() }
    SERVE(0)
    SERVE(1)
    /* All have replayed or will never, and the leases of the life before have ended. */
    :: d_step { up && grace &&
        (replay_ended[0] || !alive[0]) && (replay_ended[1] || !alive[1]) &&
        (!alive[0] || its_life[0] == life || (!cached[0] && !reading[0])) &&
        (!alive[1] || its_life[1] == life || (!cached[1] && !reading[1])) -> grace = 0 }
    od
}

#define YOUNGER(l) (its_life[a] == NONE || its_life[a] < l)
#define WELCOME(l, k) \
    :: d_step { alive[a] && YOUNGER(l) && HAS(welcome_net[a], 4 * l + k) -> welcomed(a, l, k) }
#define DURABLE(k) \
    :: d_step { alive[a] && k > durable[a] && k <= told[a] -> \
        assert(on_disk[a] >= k); \
        durable[a] = k; \
        loss(a) }
/* A reply that has the write on its way already would get it once more from its ANSWER, over what the
 * other has written since. */
#if FAULT == 11
#define NEWER(k) false
#else
#define NEWER(k) (sent[a] == SHARED && acked[a] < SHARED && HAS(k & 3, a))
#endif
#if FAULT == 8
#define MAY_KEEP(k) true
#elif FAULT == 9
#define MAY_KEEP(k) (k / 4 >= recalled[a] && !NEWER(k))
#else
#define MAY_KEEP(k) (k / 4 >= recalled[a] && (acked[a] < SHARED || HAS(k & 3, a)) && !NEWER(k))
#endif
#define REPLY(k) \
    :: d_step { alive[a] && reading[a] && HAS(reply_net[a * 3 + its_life[a]], k) -> \
        reading[a] = 0; \
        cached[a] = MAY_KEEP(k); \
        copy[a] = (MAY_KEEP(k) -> (k & 3) : 0) }
#define RECALL(k) \
    :: d_step { alive[a] && its_life[a] != NONE && HAS(recall_net[a * 3 + its_life[a]], k) && k > recalled[a] -> \
        recalled[a] = k; \
        cached[a] = 0; \
        copy[a] = 0; \
        recalled_net[a * 3 + its_life[a]] = recalled_net[a * 3 + its_life[a]] | BIT(k) }

/* What belongs to an earlier life is refused by its number. Unless that is what is looked at (4),
 * such messages are left out: they make states that differ in nothing else. */
#if FAULT == 4
#define MATTERS true
#else
#define MATTERS (its_life[a] == life)
#endif
inline send(net) {
    if
    :: MATTERS -> net = net | BIT(its_life[a])
    :: else
    fi
}

/* Sends the next operation to replay, or says that there is none and sends what is new. */
inline go_on(a) {
    if
    :: replaying[a] <= acked[a] ->
        send(replay_net[a * 4 + replaying[a]])
    :: else ->
        replaying[a] = 0;
        replayed_net[a] = BIT(its_life[a]);
        if
        :: sent[a] > acked[a] -> send(op_net[a * 4 + sent[a]])
        :: else
        fi
    fi
}

inline welcomed(a, l, mark) {
    its_life[a] = l;
    assert(mark >= durable[a]);
    cached[a] = 0;
    copy[a] = 0;
    reading[a] = 0;
    recalled[a] = 0;
    if
    :: mark >= sent[a] && sent[a] > acked[a] ->
        acked[a] = sent[a]
    :: else
    fi;
#if FAULT == 2
    replaying[a] = acked[a] + 1;
#else
    replaying[a] = mark + 1;
#endif
    welcome_net[a] = welcome_net[a] & ~(BIT(4 * l + 4) - 1);
    go_on(a)
}

proctype Agent(byte a) {
end:
    do
    :: d_step { alive[a] && crashes < CRASHES ->
        crashes++;
        alive[a] = 0;
        doubly[a] = doubly[a] || (acked[a] > (up -> applied[a] : on_disk[a]));
        cached[a] = 0;
        copy[a] = 0;
        reading[a] = 0;
        loss(a) }
    :: !alive[a] -> break
    WELCOME(0, 0)
    WELCOME(1, 0) WELCOME(1, 1) WELCOME(1, 2) WELCOME(1, 3)
    WELCOME(2, 0) WELCOME(2, 1) WELCOME(2, 2) WELCOME(2, 3)
    DURABLE(1) DURABLE(2) DURABLE(3)
    /* replay in order, each acknowledged before the next */
    :: d_step { alive[a] && replaying[a] > 0 && HAS(ack_net[a * 4 + replaying[a]], its_life[a]) ->
        ack_net[a * 4 + replaying[a]] = 0;
        replaying[a]++;
        go_on(a) }
    /* a new operation: one not acknowledged at a time */
    :: d_step { alive[a] && its_life[a] != NONE && replaying[a] == 0 && sent[a] == acked[a] && sent[a] < OPS &&
        (a == 0 || sent[0] > 0) /* by symmetry */ ->
        sent[a]++;
        send(op_net[a * 4 + sent[a]]);
        if
        :: sent[a] == SHARED && acked[1 - a] >= SHARED -> first[1 - a] = 1
        :: else
        fi }
    :: d_step { alive[a] && its_life[a] != NONE && replaying[a] == 0 && sent[a] > acked[a] &&
        HAS(ack_net[a * 4 + sent[a]], its_life[a]) ->
        ack_net[a * 4 + sent[a]] = 0;
        acked[a] = sent[a];
        if
        :: acked[a] == SHARED && cached[a] -> copy[a] = (HAS(copy[a], a) -> 1 + a : copy[a] | (1 + a))
        :: else
        fi;
        loss(a) }
    /* the cache */
    :: d_step { alive[a] && its_life[a] != NONE && replaying[a] == 0 && CACHE && !has_read[a] && !cached[a] ->
        has_read[a] = 1;
        reading[a] = 1;
        read_net[a] = BIT(its_life[a]) }
    REPLY(0) REPLY(1) REPLY(2) REPLY(3)
    REPLY(4) REPLY(5) REPLY(6) REPLY(7)
    REPLY(8) REPLY(9) REPLY(10) REPLY(11)
    RECALL(1) RECALL(2)
    :: d_step { alive[a] && (cached[a] || reading[a]) -> cached[a] = 0; copy[a] = 0; reading[a] = 0 } /* the lease ends */
    /* reading from the cache */
    :: d_step { alive[a] && cached[a] && (copy[a] & ALL_ACKED_IN_X) != ALL_ACKED_IN_X -> assert(false) }
    od
}

init {
    atomic {
        its_life[0] = NONE;
        its_life[1] = NONE;
        welcome_net[0] = 1;
        welcome_net[1] = 1;
        run Server();
        run Agent(0);
        run Agent(1);
    }
}
