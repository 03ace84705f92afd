%% The peer of the runtime's benchmarks: a gen_server that does what their actors do, compiled.
%% Reads one request a line, such as `cast 200000`, and answers with the microseconds it took,
%% one figure for each phase of it. What is asked, and when, stands in ../erlang_peer.py.
-module(bench_peer).
-behaviour(gen_server).
-export([main/0]).
-export([start_link/0, init/1, handle_call/3, handle_cast/2]).

main() ->
    ok = io:setopts(standard_io, [{encoding, latin1}]),
    serve().

serve() ->
    case io:get_line(standard_io, "") of
        eof -> halt(0);
        {error, _} -> halt(1);
        Line ->
            [What, Count] = string:lexemes(Line, " \n"),
            Times = apart(list_to_existing_atom(What), list_to_integer(Count)),
            Text = lists:join(" ", [integer_to_list(Time) || Time <- Times]),
            ok = io:put_chars(standard_io, [Text, "\n"]),
            serve()
    end.

%% Each run in a process of its own: what an earlier one left on its heap costs this one nothing.
apart(What, Count) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({took, run(What, Count)}) end),
    receive
        {'DOWN', Monitor, process, Pid, {took, Times}} -> Times;
        {'DOWN', Monitor, process, Pid, Reason} -> exit(Reason)
    end.

run(cast, Count) ->
    {ok, Pid} = start_link(),
    Began = now_us(),
    repeat(Count, fun() -> gen_server:cast(Pid, {add, 1}) end),
    Count = gen_server:call(Pid, get, infinity),
    Times = [now_us() - Began],
    ok = gen_server:stop(Pid),
    Times;
run(call, Count) ->
    {ok, Pid} = start_link(),
    Began = now_us(),
    repeat(Count, fun() -> gen_server:call(Pid, get) end),
    Times = [now_us() - Began],
    ok = gen_server:stop(Pid),
    Times;
%% Linked to this process; each is told one thing and stopped alone.
run(alone, Count) ->
    Began = now_us(),
    Pids = started(Count, fun start_link/0),
    Started = now_us(),
    lists:foreach(fun(Pid) -> ok = gen_server:stop(Pid) end, Pids),
    [Started - Began, now_us() - Started];
%% Under a supervisor; each is told one thing, all are stopped by stopping the supervisor.
run(supervised, Count) ->
    process_flag(trap_exit, true),
    {ok, Pool} = supervisor:start_link(?MODULE, pool),
    Began = now_us(),
    started(Count, fun() -> supervisor:start_child(Pool, []) end),
    Started = now_us(),
    ok = gen_server:stop(Pool, shutdown, infinity),
    [Started - Began, now_us() - Started].

started(Count, Start) ->
    Pids = [begin {ok, Pid} = Start(), gen_server:cast(Pid, {add, 1}), Pid end
            || _ <- lists:seq(1, Count)],
    1 = gen_server:call(lists:last(Pids), get),
    Pids.

repeat(0, _) -> ok;
repeat(Count, Act) -> Act(), repeat(Count - 1, Act).

now_us() -> erlang:monotonic_time(microsecond).

%% -- the gen_server, and the pool of them ------------------------------------------------------

start_link() -> gen_server:start_link(?MODULE, counter, []).

init(counter) -> {ok, 0};
init(pool) ->
    Child = #{id => counter, start => {?MODULE, start_link, []}, restart => temporary},
    {ok, {#{strategy => simple_one_for_one}, [Child]}}.

handle_call(get, _, Total) -> {reply, Total, Total}.

handle_cast({add, Count}, Total) -> {noreply, Total + Count}.
