# packages.pl STATUS DEBS NAMES: prints a Nix expression of packages, from dpkg's status file.
#
# A package is { debs = [ file names ]; deps = [ all packages that it uses ]; }. Packages that
# depend on each other become one.
use strict;
use warnings;

my ($status, $debs, $names) = @ARGV;

my (%depends, %provides);
{
    local $/ = "";
    open my $file, '<', $status or die "$status: $!";
    while (my $entry = <$file>) {
        $entry =~ s/\n[ \t]+/ /g;
        my %field = map { /^([A-Za-z-]+): *(.*)$/ ? ($1, $2) : () } split /\n/, $entry;
        next unless $field{Status} =~ / installed$/;
        my $name = $field{Package};
        $provides{$name} = $name;
        for my $provided (split /, */, $field{Provides} // '') {
            $provided =~ s/ .*//;
            $provides{$provided} //= $name;
        }
        $depends{$name} = join ', ', grep { defined } @field{qw(Depends Pre-Depends)};
    }
}

my (@wanted, %skip);
open my $list, '<', $names or die "$names: $!";
while (my $line = <$list>) {
    $line =~ s/#.*//;
    $line =~ s/\s+//g;
    next if $line eq '';
    if ($line =~ s/^-//) { $skip{$line} = 1 } else { push @wanted, $line }
}

# Of alternatives, what is installed.
sub direct {
    my ($name) = @_;
    my %found;
    for my $clause (split /, */, $depends{$name}) {
        for my $alternative (split / *\| */, $clause) {
            $alternative =~ s/[ (:].*//;
            my $package = $provides{$alternative} or next;
            $found{$package} = 1 unless $skip{$package} || $package eq $name;
            last;
        }
    }
    return sort keys %found;
}

my (%edges, @queue);
@queue = @wanted;
while (defined(my $name = shift @queue)) {
    next if exists $edges{$name};
    die "$name is not installed\n" unless exists $depends{$name};
    $edges{$name} = [direct($name)];
    push @queue, @{ $edges{$name} };
}

# All that can be reached, and so what is on a cycle.
my %reach;
for my $start (keys %edges) {
    my @todo = @{ $edges{$start} };
    while (defined(my $name = pop @todo)) {
        next if $reach{$start}{$name}++;
        push @todo, @{ $edges{$name} };
    }
}
my %leader;
for my $name (sort keys %edges) {
    my @same = sort grep { $reach{$name}{$_} && $reach{$_}{$name} } keys %edges;
    $leader{$name} = @same ? (grep { $_ eq 'libc6' } @same) ? 'libc6' : $same[0] : $name;
}

my %members;
push @{ $members{ $leader{$_} } }, $_ for sort keys %leader;
print "{\n";
for my $name (sort keys %members) {
    my @files;
    for my $member (@{ $members{$name} }) {
        my @found = glob "$debs/${member}_*.deb";
        die "no package file of $member\n" unless @found == 1;
        push @files, $found[0] =~ s{.*/}{}r;
    }
    my %deps = map { $leader{$_} => 1 } map { keys %{ $reach{$_} // {} } } @{ $members{$name} };
    delete $deps{$name};
    my ($version) = map { /^\Q$name\E_([^_]*)_/ } @files;
    $version =~ s/^\d+%3a//;
    $version =~ s/[^A-Za-z0-9.+-]/-/g;
    print "  \"$name\" = {\n    version = \"$version\";\n";
    print '    debs = [ ', join(' ', map { "\"$_\"" } @files), " ];\n";
    print '    deps = [ ', join(' ', map { "\"$_\"" } sort keys %deps), " ];\n  };\n";
}
print "}\n";
