#!/bin/sh
# A real, throw-away SLURM cluster on this one machine, for tests.
#
#   cluster.sh start     start munged + slurmctld + N slurmd, wait until every node is idle
#   cluster.sh stop      cancel all jobs, stop the daemons that start launched (by pid), nothing else
#   cluster.sh status    sinfo/squeue, rc 0 when every node is usable
#   cluster.sh env       print the line to eval:   eval "$(cluster.sh env)"
#   cluster.sh install   apt-get install the packages (Debian/Ubuntu)
#   cluster.sh restart   stop + start
#
# Run as root. All it writes lies under $SLURM_LOCAL_DIR and, if it can, in /dev/shm; daemons listen on 127.0.0.1 only.
# Nodes are called sn1, sn2, ...; each slurmd has its own UTS + mount namespace, so in a job
# `hostname` says sn1 / sn2 and those names resolve (bind-mounted hosts file), with nothing
# changed on the host. Where unshare(1) is forbidden it falls back to plain `slurmd -N`
# (then export MASTER_ADDR=127.0.0.1 in multi-node jobs).
#
# Knobs (environment):
#   SLURM_LOCAL_DIR    /tmp/slurm-local   logs, config, pids
#   SLURM_LOCAL_NODES  2                  number of nodes
#   SLURM_LOCAL_CPUS   4                  CPUs each node claims (may exceed the real ones)
#   SLURM_LOCAL_MEM    8000               MB each node claims (--mem is checked against it)
#   SLURM_LOCAL_GPUS   0                  pretend GPUs per node: --gres=gpu:N is accepted, sets CUDA_VISIBLE_DEVICES
#   SLURM_LOCAL_PORT   26817              slurmctld's port; node n's slurmd is on this + n
#   SLURM_LOCAL_KILLWAIT 5                seconds between SIGTERM and SIGKILL
#   SLURM_LOCAL_GRACE  20                 preemption grace, seconds
#   SLURM_LOCAL_REQUEUE_DELAY 5           seconds a requeued job is held back (SLURM's default: 120)
#   SLURM_LOCAL_NS     auto               auto | yes | no: namespaces per node
set -eu
umask 022

DIR=${SLURM_LOCAL_DIR:-/tmp/slurm-local}
NODES=${SLURM_LOCAL_NODES:-2}
CPUS=${SLURM_LOCAL_CPUS:-4}
MEM=${SLURM_LOCAL_MEM:-8000}
GPUS=${SLURM_LOCAL_GPUS:-0}
PORT=${SLURM_LOCAL_PORT:-26817}
KILLWAIT=${SLURM_LOCAL_KILLWAIT:-5}
GRACE=${SLURM_LOCAL_GRACE:-20}
REQUEUE_DELAY=${SLURM_LOCAL_REQUEUE_DELAY:-5}
NS=${SLURM_LOCAL_NS:-auto}
PATH=$PATH:/usr/sbin:/sbin
PIDS=$DIR/pids
# The controller answers nobody while it syncs its state to disk, and none of it need outlast the cluster.
STATE=$DIR/state
[ ! -w /dev/shm ] || STATE=/dev/shm/slurm-local$(printf %s "$DIR" | tr / -)
HOST=$(hostname -s 2>/dev/null || hostname)

say() { echo "slurm-local: $*" >&2; }
STARTING=
die() {
    say "$*"
    [ -z "$STARTING" ] || { STARTING=; stop quiet; }
    exit 1
}

starttime() { # PID -> start time in ticks (field 22 of stat; the name in field 2 may hold spaces)
    sed -n 's/^.*) //p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
}
zombie() { [ "$(sed -n 's/^.*) //p' "/proc/$1/stat" 2>/dev/null | cut -c1)" = Z ]; }
ours() { # PID STARTTIME: is it still the very process that we started?
    [ -n "$2" ] && [ "$(starttime "$1")" = "$2" ] && ! zombie "$1"
}

launch() { # NAME [ns:HOSTNAME] COMMAND...: run in the background, note pid and start time
    name=$1; shift
    ns=
    case $1 in ns:*) ns=${1#ns:}; shift;; esac
    rm -f "$DIR/run/$name.pid"
    # the inner sh notes its own pid and then execs, so the pid is the daemon's own
    if [ -n "$ns" ]; then
        SLURM_CONF=$DIR/slurm.conf SLURM_LOCAL_ID=$DIR setsid unshare --uts --mount --propagation slave \
            sh -c 'hostname "$1"; mount --bind "$2" /etc/hosts; echo $$ >"$3"; shift 3; exec "$@"' \
            sh "$ns" "$DIR/hosts" "$DIR/run/$name.pid" "$@" </dev/null >"$DIR/log/$name.out" 2>&1 &
    else
        SLURM_CONF=$DIR/slurm.conf SLURM_LOCAL_ID=$DIR setsid \
            sh -c 'echo $$ >"$1"; shift; exec "$@"' \
            sh "$DIR/run/$name.pid" "$@" </dev/null >"$DIR/log/$name.out" 2>&1 &
    fi
    i=0
    while [ ! -s "$DIR/run/$name.pid" ]; do
        i=$((i + 1)); [ $i -le 100 ] || die "$name did not start: $(tail -n 3 "$DIR/log/$name.out")"
        sleep 0.05
    done
    pid=$(cat "$DIR/run/$name.pid")
    echo "$pid $(starttime "$pid") $name" >>"$PIDS"
}

write_conf() {
    # NoInAddrAny makes slurmd and srun listen on what their own host name resolves to. srun's peers
    # call back on the address it connected from, 127.0.0.1, so use it only where the two agree.
    inaddr=
    case $(getent ahostsv4 "$HOST" | cut -d' ' -f1 | sort -u) in
        127.0.0.1) inaddr=,NoInAddrAny;;
        *) say "$HOST does not resolve to 127.0.0.1: slurmd and srun listen on every interface (munge guards them)";;
    esac
    cat >"$DIR/slurm.conf" <<CONF
ClusterName=slurmlocal
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$PORT
CommunicationParameters=NoCtldInAddrAny$inaddr
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# cred_expire is also how long a requeued job is held back (default 120 s)
AuthInfo=socket=$DIR/munge/munge.sock,cred_expire=$REQUEUE_DELAY
StateSaveLocation=$STATE
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldPidFile=$DIR/run/slurmctld.slurm-pid
SlurmdPidFile=$DIR/run/slurmd.%n.slurm-pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd.%n.log
# no cgroups, no binding, no accounting database
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$DIR/log/jobcomp.txt
MailProg=/bin/true
# CPUs are what jobs consume; nodes may claim more CPUs and memory than the machine has
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
# preemption: a job in 'urgent' pushes jobs in 'main' out. They get their --signal, GraceTime, then requeue
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
JobFileAppend=1
# Where two clusters run on this machine, jobs of one number would meet at one port.
FirstJobId=$((PORT / 10 * 100 % 9900 + 1))
# be quick
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
KillWait=$KILLWAIT
CompleteWait=0
MinJobAge=3600
SlurmdTimeout=60
# where tests take all processors, or the disk, the controller may be long in answering
MessageTimeout=60
InactiveLimit=0
WaitTime=0
CONF
    gres=
    if [ "$GPUS" -gt 0 ]; then
        : >"$DIR/gres.conf"
        g=0; while [ $g -lt "$GPUS" ]; do mknod -m 666 "$DIR/run/gpu$g" c 1 3; g=$((g + 1)); done
        # twins of /dev/null stand in for the device nodes
        echo "Name=gpu File=$DIR/run/gpu[0-$((GPUS - 1))]" >>"$DIR/gres.conf"
        echo "GresTypes=gpu" >>"$DIR/slurm.conf"
        gres="Gres=gpu:$GPUS"
    else
        rm -f "$DIR/gres.conf"
    fi
    cp /etc/hosts "$DIR/hosts"
    n=1
    while [ $n -le "$NODES" ]; do
        if [ "$NS" = yes ]; then nh=sn$n; else nh=$HOST; fi
        echo "NodeName=sn$n NodeHostname=$nh NodeAddr=127.0.0.1 Port=$((PORT + n)) CPUs=$CPUS RealMemory=$MEM $gres State=UNKNOWN" >>"$DIR/slurm.conf"
        echo "127.0.0.1 sn$n" >>"$DIR/hosts"
        n=$((n + 1))
    done
    cat >>"$DIR/slurm.conf" <<CONF
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=$GRACE
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
    # (tested with 22.05, Debian 12.) Newer ones spell two things otherwise
    rm -f "$DIR/cgroup.conf"
    case $(slurmd -V) in
        *" 20."*|*" 21."*|*" 22."*|*" 23."*) ;;
        *) echo "PreemptParameters=send_user_signal" >>"$DIR/slurm.conf"
           echo "CgroupPlugin=disabled" >"$DIR/cgroup.conf";;
    esac
    echo "export SLURM_CONF='$DIR/slurm.conf'" >"$DIR/env.sh"
}

alive() { # is every process in $PIDS still ours?
    [ -s "$PIDS" ] || return 1
    while read -r p s _; do ours "$p" "$s" || return 1; done <"$PIDS"
}
ready() { # every node up, none down/unknown/not responding
    [ "$(sinfo -h -N -p main -o '%T' 2>/dev/null | grep -c -E '^(idle|mixed|allocated|completing)$')" = "$NODES" ]
}

start() {
    [ "$(id -u)" = 0 ] || die "run as root"
    for c in munged slurmctld slurmd sinfo; do
        command -v $c >/dev/null || die "$c not found: run '$0 install'"
    done
    export SLURM_CONF="$DIR/slurm.conf"
    if alive; then
        NODES=$(grep -c '^NodeName=' "$SLURM_CONF")
        if ready; then say "already running: . $DIR/env.sh"; return 0; fi
    fi
    stop quiet
    case $DIR in /?*) ;; *) die "SLURM_LOCAL_DIR must be absolute";; esac
    if [ -e "$DIR" ] && [ ! -e "$DIR/.slurm-local" ] && [ -n "$(ls -A "$DIR")" ]; then
        die "$DIR is not empty and not ours"
    fi
    mkdir -p "$DIR"; : >"$DIR/.slurm-local"
    rm -rf "$STATE" "$DIR/spool" "$DIR/run" "$DIR/munge" "$DIR/log"
    mkdir -p "$STATE" "$DIR/spool" "$DIR/run" "$DIR/log" "$DIR/munge"
    chmod 700 "$STATE"
    : >"$PIDS"
    STARTING=1
    if [ "$NS" = auto ]; then
        if unshare --uts --mount --propagation slave true 2>/dev/null; then NS=yes; else NS=no; fi
    fi
    write_conf
    (umask 077; dd if=/dev/urandom of="$DIR/munge/key" bs=128 count=1 2>/dev/null)
    launch munged munged --foreground --key-file="$DIR/munge/key" --socket="$DIR/munge/munge.sock" \
        --pid-file="$DIR/munge/pid" --seed-file="$DIR/munge/seed" --log-file="$DIR/log/munged.log" --num-threads=4
    i=0
    while [ ! -S "$DIR/munge/munge.sock" ]; do
        i=$((i + 1)); [ $i -le 100 ] || die "munged did not come up: $(tail -n 3 "$DIR"/log/munged.*)"
        sleep 0.05
    done
    launch slurmctld slurmctld -D -c
    i=0
    until scontrol ping 2>/dev/null | grep -q 'is UP'; do
        i=$((i + 1)); alive && [ $i -le 100 ] || die "slurmctld did not come up: $(tail -n 5 "$DIR/log/slurmctld.out" "$DIR/log/slurmctld.log")"
        sleep 0.1
    done
    n=1
    while [ $n -le "$NODES" ]; do
        if [ "$NS" = yes ]; then launch "sn$n" "ns:sn$n" slurmd -D -N "sn$n"
        else launch "sn$n" slurmd -D -N "sn$n"; fi
        n=$((n + 1))
    done
    i=0
    until ready; do
        i=$((i + 1))
        [ $i -le 150 ] || { sinfo -N -l >&2 || :; tail -n 5 "$DIR"/log/*.log >&2; die "nodes did not become idle"; }
        alive || { tail -n 5 "$DIR"/log/*.out "$DIR"/log/*.log >&2; die "a daemon died"; }
        sleep 0.1
    done
    STARTING=
    say "up: $NODES nodes, namespaces=$NS. Use:  . $DIR/env.sh"
    [ "$NS" = yes ] || say "node names do not resolve: export MASTER_ADDR=127.0.0.1 in multi-node jobs"
}

stop() {
    [ -s "$PIDS" ] || { [ "${1:-}" = quiet ] || say "not running"; return 0; }
    export SLURM_CONF="$DIR/slurm.conf"
    if alive; then
        # end the jobs first: job steps belong to slurmstepd, which outlives slurmd
        ids=$(squeue -h -o %A 2>/dev/null | sort -u || :)
        if [ -n "$ids" ]; then
            scancel $ids 2>/dev/null || :
            i=0
            while [ -n "$(squeue -h 2>/dev/null)" ] && [ $i -lt $((KILLWAIT * 10 + 50)) ]; do sleep 0.1; i=$((i + 1)); done
        fi
    fi
    # newest first, but slurmctld and munged last
    for sig in TERM KILL; do
        left=0
        for want in 'sn[0-9]*' slurmctld munged; do
            while read -r p s name; do
                case $name in $want) ;; *) continue;; esac
                ours "$p" "$s" || continue
                kill -$sig "$p" 2>/dev/null || :
                i=0
                while ours "$p" "$s" && [ $i -lt 50 ]; do sleep 0.1; i=$((i + 1)); done
                ours "$p" "$s" && left=1
            done <"$PIDS"
        done
        [ $left = 1 ] || break
    done
    # a step daemon that survived carries our mark in its environment
    for e in /proc/[0-9]*/environ; do
        p=${e#/proc/}; p=${p%/environ}
        [ "$p" != $$ ] || continue
        case $(cat "/proc/$p/comm" 2>/dev/null) in slurmstepd) ;; *) continue;; esac
        if { tr "\0" "\n" <"$e"; } 2>/dev/null | grep -qxF "SLURM_LOCAL_ID=$DIR"; then kill -KILL "$p" 2>/dev/null || :; fi
    done
    rm -f "$PIDS"
    rm -rf "$STATE" # a cluster begins without one
    [ "${1:-}" = quiet ] || say "stopped (logs in $DIR/log)"
}

case ${1:-} in
    start) start;;
    stop) stop;;
    restart) stop quiet; start;;
    env) echo "export SLURM_CONF='$DIR/slurm.conf'";;
    status)
        export SLURM_CONF="$DIR/slurm.conf"
        alive || { say "not running"; exit 1; }
        NODES=$(grep -c '^NodeName=' "$SLURM_CONF")
        sinfo; squeue; ready;;
    install)
        apt-get -o DPkg::Lock::Timeout=300 update -qq
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends slurm-wlm munge util-linux;;
    *) sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"; exit 2;;
esac
