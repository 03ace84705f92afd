%% Plays one scenario: does each step, waits until the tree is at rest, writes what is to be seen.
-module(conf_player).
-export([play/3, request/2]).

%% A tree that is not at rest after so many looks, a millisecond apart or more, never will be.
-define(LOOKS, 120000).

play(Id, Definition, Steps) ->
    process_flag(trap_exit, true),
    Stage = conf_stage:open(),
    Lines = steps(Steps, 0, #{id => Id, stage => Stage, definition => Definition,
                              root => undefined, reason => "never_ran"}),
    unlink(Stage),
    exit(Stage, kill),
    Lines.

steps([], _, _) -> [];
steps([{Script, Action} | Rest], N, State) ->
    #{id := Id, stage := Stage} = State,
    ok = conf_stage:call(Stage, {script, Script}),
    {Result, Acted} = act(Action, State),
    {Tree, Rested} = rest(?LOOKS, Acted),
    {Log, Ends, Answers} = conf_stage:call(Stage, take),
    Life = case Tree of [] -> ["exited ", maps:get(reason, Rested)]; _ -> "alive" end,
    Fields = [integer_to_list(Id), integer_to_list(N),
              conf_words:result(Result, conf_stage:call(Stage, labels)), joined(Log),
              joined(Ends), lists:join(";", Answers), lists:join(";", Tree), Life],
    [lists:join("\t", Fields), "\n" | steps(Rest, N + 1, Rested)].

joined(Lines) -> lists:join(",", Lines).

%% -- doing ----------------------------------------------------------------------------------

act(start, State = #{stage := Stage, definition := Definition}) ->
    case conf_sup:start_link(Stage, "root", Definition) of
        {ok, Pid} -> {{ok, Pid}, State#{root := Pid}};
        Other -> {Other, State}
    end;
act(stop, State = #{root := undefined}) -> {noproc, State};
act(stop, State = #{root := Root}) ->
    exit(Root, shutdown),
    {ok, State};
act({finish, Name, How}, State = #{stage := Stage}) ->
    {finish(conf_stage:call(Stage, {newest, Name}), How), State};
act({sleep, Milliseconds}, State) ->
    timer:sleep(Milliseconds),
    {ok, State};
act({call, Sup, Call}, State = #{stage := Stage}) ->
    Newest = conf_stage:call(Stage, newest),
    Target = maps:get(Sup, Newest, undefined),
    {ask(Target, request(Call, Newest, Stage)), State}.

finish(undefined, _) -> noproc;
finish(Pid, How) ->
    Monitor = monitor(process, Pid),
    case How of
        kill -> [exit(One, kill) || One <- [Pid | below(Pid)]];
        Reason -> Pid ! {finish, Reason}
    end,
    receive
        {'DOWN', Monitor, process, Pid, noproc} -> noproc;
        {'DOWN', Monitor, process, Pid, _} -> ok
    end.

%% Whoever kills a supervisor kills what is below it too, as our side does: the orphans of a
%% killed supervisor end by themselves otherwise, each in its own time.
below(Pid) ->
    case proc_lib:initial_call(Pid) of
        {supervisor, _, _} ->
            Pids = [One || {_, One, _, _} <- ask(Pid, which_children), is_pid(One)],
            Pids ++ lists:append([below(One) || One <- Pids]);
        _ ->
            []
    end.

ask(undefined, _) -> noproc;
ask(Pid, Request) ->
    try gen_server:call(Pid, Request, infinity)
    catch exit:_ -> noproc
    end.

request(Call, Newest) -> request(Call, Newest, self()).

request({start_child, Spec}, _, Stage) -> {start_child, conf_sup:spec(Stage, Spec)};
request({start_dynamic, Name}, _, _) -> {start_child, [Name]};
request({by_ref, Call, Name}, Newest, _) -> {Call, maps:get(Name, Newest, self())};
request({Call, Name}, _, _) -> {Call, Name};
request(Call, _, _) -> Call.

%% -- seeing ----------------------------------------------------------------------------------

%% At rest: everybody listed lives, everybody who lives is listed, nobody is being restarted.
rest(0, State) -> {["never_at_rest"], State};
rest(_, State = #{root := undefined}) -> {[], State};
rest(Looks, State = #{root := Root, stage := Stage}) ->
    Live = lists:sort(conf_stage:call(Stage, live)),
    case catch look("root", Root, Stage) of
        {seen, Lines, Pids} ->
            case lists:sort([Root | Pids]) of
                Live -> {Lines, State};
                _ -> again(Looks, State)
            end;
        _ when Live =:= [] ->
            Reason = receive {'EXIT', Root, Why} -> conf_words:exit_kind(Why) end,
            {[], State#{root := undefined, reason := Reason}};
        _ ->
            again(Looks, State)
    end.

again(Looks, State) ->
    case Looks > ?LOOKS - 20 of
        true -> erlang:yield();
        false -> timer:sleep(1)
    end,
    rest(Looks - 1, State).

look(Name, Pid, Stage) ->
    List = gen_server:call(Pid, which_children, infinity),
    Counts = gen_server:call(Pid, count_children, infinity),
    [throw(not_at_rest) || {_, restarting, _, _} <- List],
    Pids = [Child || {_, Child, _, _} <- List, is_pid(Child)],
    [throw(not_at_rest) || Child <- Pids, not is_process_alive(Child)],
    Labels = conf_stage:call(Stage, labels),
    Line = [Name, " ", conf_words:counts(Counts), " ", conf_words:listing(List, Labels)],
    Below = [look(Id, Child, Stage) || {Id, Child, supervisor, _} <- List, is_pid(Child)],
    {seen, [Line | lists:append([Lines || {seen, Lines, _} <- Below])],
     Pids ++ lists:append([More || {seen, _, More} <- Below])}.
