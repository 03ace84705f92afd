%% What the children of one scenario are to do, and what they did. One process a scenario; its
%% callers wait for the answer, so the log has the order in which things happened.
-module(conf_stage).
-export([open/0, call/2]).

open() ->
    spawn_link(fun() -> loop(#{scripts => #{}, log => [], ends => [], answers => #{}, asked => 0,
                               serials => #{}, live => #{}, newest => #{}, labels => #{},
                               kinds => #{}}) end).

call(Stage, Request) ->
    Tag = monitor(process, Stage),
    Stage ! {self(), Tag, Request},
    receive
        {Tag, Answer} -> demonitor(Tag, [flush]), Answer;
        {'DOWN', Tag, process, _, _} -> exit(the_scenario_is_over)
    end.

loop(State) ->
    receive
        {From, Tag, Request} when is_pid(From) ->
            {Answer, Next} = serve(Request, From, State),
            From ! {Tag, Answer},
            loop(Next);
        {{answer, N}, Reply} ->
            #{answers := Answers} = State,
            loop(State#{answers := Answers#{N => conf_words:result(Reply, labels(State))}});
        {'DOWN', _, process, Pid, Reason} ->
            loop(ended(Pid, Reason, State))
    end.

%% The next starts of these children; what an earlier script left over is void.
serve({script, Scripts}, _, State) ->
    {ok, State#{scripts := maps:from_list(Scripts)}};
%% A child begins to start: what shall come of it?
serve({start, Name}, _, State) ->
    #{scripts := Scripts, asked := Asked} = State,
    Logged = log(["start ", Name], State),
    case Scripts of
        #{Name := [{fail, Call} | Rest]} ->
            Request = conf_player:request(Call, maps:get(newest, State)),
            {{fail, Request, Asked}, Logged#{scripts := Scripts#{Name := Rest}, asked := Asked + 1}};
        #{Name := [{strike, Victim, Then} | Rest]} ->
            #{newest := Newest} = State,
            {{strike, maps:get(Victim, Newest, undefined), Then},
             Logged#{scripts := Scripts#{Name := Rest}}};
        #{Name := [Step | Rest]} ->
            {Step, Logged#{scripts := Scripts#{Name := Rest}}};
        #{} ->
            {ok, Logged}
    end;
%% A process for this child exists from now on.
serve({up, Name, Kind}, Pid, State) ->
    #{serials := Serials, live := Live, newest := Newest, labels := Labels, kinds := Kinds} = State,
    Serial = maps:get(Name, Serials, 0) + 1,
    monitor(process, Pid),
    Label = io_lib:format("~s#~b", [Name, Serial]),
    {ok, State#{serials := Serials#{Name => Serial}, live := Live#{Pid => Name},
                newest := Newest#{Name => Pid}, labels := Labels#{Pid => Label},
                kinds := Kinds#{Pid => Kind}}};
serve({stop, Name}, _, State) ->
    {ok, log(["stop ", Name], State)};
serve({newest, Name}, _, State = #{newest := Newest}) ->
    {maps:get(Name, Newest, undefined), State};
serve(newest, _, State = #{newest := Newest}) ->
    {Newest, State};
serve(live, _, State = #{live := Live}) ->
    {maps:keys(Live), State};
serve(labels, _, State) ->
    {labels(State), State};
%% What happened since the last time: log, ends, answers of the calls between attempts.
serve(take, _, State) ->
    #{log := Log, ends := Ends, answers := Answers, asked := Asked} = State,
    Told = [maps:get(N, Answers, "noproc") || N <- lists:seq(0, Asked - 1)],
    {{lists:reverse(Log), lists:reverse(Ends), Told},
     State#{log := [], ends := [], answers := #{}, asked := 0}}.

ended(Pid, Reason, State) ->
    #{live := Live, ends := Ends, kinds := Kinds} = State,
    {Name, Rest} = maps:take(Pid, Live),
    %% A supervisor that did not get up has not ended: nobody ever saw it.
    Ending = case {maps:get(Pid, Kinds), Reason} of
                 {supervisor, {shutdown, {failed_to_start_child, _, _}}} -> [];
                 _ -> [[Name, " ", conf_words:exit_kind(Reason)]]
             end,
    State#{live := Rest, ends := Ending ++ Ends}.

labels(#{labels := Labels}) -> Labels.

log(Line, State = #{log := Log}) -> State#{log := [Line | Log]}.
