%% A worker that does what its stage says, and writes down that it was started and stopped.
-module(conf_child).
-export([start_link/3, start_link/4, begin_life/4]).

%% Under simple_one_for_one the name comes last, as the argument of start_child.
start_link(Stage, dynamic, Manner, Name) -> start_link(Stage, Name, Manner).

%% Runs in the supervisor.
start_link(Stage, Name, Manner) ->
    start(conf_stage:call(Stage, {start, Name}), Stage, Name, Manner).

start(Step, Stage, Name, Manner) ->
    case Step of
        ok ->
            proc_lib:start_link(?MODULE, begin_life, [self(), Stage, Name, Manner]);
        ignore ->
            ignore;
        fail ->
            {error, planned};
        {strike, Victim, Then} ->
            strike(Victim),
            start(Then, Stage, Name, Manner);
        {fail, Request, N} ->
            %% Stands in the supervisor's mailbox before its own wish to try again: it is
            %% served between the two attempts.
            self() ! {'$gen_call', {Stage, {answer, N}}, Request},
            {error, planned}
    end.

%% Kills another child and waits: its exit stands in the supervisor's mailbox when this returns.
strike(undefined) -> ok;
strike(Victim) ->
    Monitor = monitor(process, Victim),
    exit(Victim, kill),
    receive {'DOWN', Monitor, process, Victim, _} -> ok end.

begin_life(Parent, Stage, Name, Manner) ->
    process_flag(trap_exit, true),
    ok = conf_stage:call(Stage, {up, Name, worker}),
    proc_lib:init_ack({ok, self()}),
    live(Parent, Stage, Name, Manner).

live(Parent, Stage, Name, Manner) ->
    receive
        {finish, Reason} ->
            exit(Reason);
        {'EXIT', Parent, shutdown} ->
            ok = conf_stage:call(Stage, {stop, Name}),
            stop(Manner);
        {'EXIT', Parent, Reason} ->
            exit(Reason)
    end.

stop(quick) -> exit(shutdown);
stop(crash) -> exit(planned);
stop(hang) -> receive never -> ok end.
